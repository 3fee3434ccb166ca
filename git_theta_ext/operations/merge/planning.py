"""Plan the merge of a checkpoint."""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING

from git_theta_ext.comparison.words import listed
from git_theta_ext.errors import ThetaError
from git_theta_ext.merging.planning.casts import Casts, find_casts, values_to_read
from git_theta_ext.merging.planning.plan import UNREAD, plan
from git_theta_ext.model.conflict_reasons import ConflictCode, Reason
from git_theta_ext.operations.sync.fetch import ensure_digests
from git_theta_ext.records import replace
from git_theta_ext.registry import find_merge
from git_theta_ext.statistics.sidecar import is_statistics
from git_theta_ext.util.libraries import absent, is_installed

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from git_theta_ext.merging.planning.plan import Plan
    from git_theta_ext.merging.rules.rules import Rules
    from git_theta_ext.model.manifest import Manifest
    from git_theta_ext.operations.workspace import Workspace


def plan_checkpoint(  # noqa: PLR0913 - named, and the last ones have defaults
    workspace: Workspace,
    base: Manifest | None,
    sides: Sequence[Manifest],
    rules: Rules,
    unread_types: Iterable[str] = (),
    *,
    mixed: bool = False,
) -> Plan:
    """Plan a merge; statistics that several sides added are merged without a common ancestor.

    Values are read, and fetched from a remote if they are not here, only of parameters whose element type a side
    changed.

    Args:
        workspace: The repository and its store.
        base: The common ancestor's version, or None.
        sides: The versions to merge, ours first.
        rules: The rules.
        unread_types: Parameters for which values are not read, as if they were missing.
        mixed: As for ``plan``.

    Raises:
        MergeError: A rule that is needed has weights for another number of sides.
        PluginError: There is no such format.
        StoreError: The store cannot be read.
    """
    casts = {}
    if values := set(values_to_read(base, sides)):
        with suppress(ThetaError):  # a missing value ends as a conflict that says so
            ensure_digests(workspace, values)
        casts = find_casts(workspace.store, base, sides)
    casts |= dict.fromkeys(unread_types, Casts(unknown=UNREAD.text))
    baseless = all(is_statistics(side.parameters) for side in sides)
    return plan(base, sides, rules, baseless=baseless, casts=casts, mixed=mixed)


def without_torch(planned: Plan) -> Plan:
    """Return a plan without what methods need torch for if torch is not installed: it is left in conflict."""
    used = {decision.choice.method for decision in planned.decisions if decision.action == "compute"}
    methods = sorted(name for name in used if not find_merge(name).contract.arrays)
    if not methods or is_installed("torch"):
        return planned
    error = absent("torch", f"merging by {listed(methods)}")
    postponed = planned.postponed(Reason.of(ConflictCode.FAILED, error.message), methods)
    return replace(postponed, notes=(*planned.notes, f"{error.message}: {error.hint}"))
