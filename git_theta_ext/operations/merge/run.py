"""What merges of checkpoints need of the repository: their plans, its device, and a place to remember results."""

from __future__ import annotations

import os
from contextlib import suppress
from dataclasses import replace
from typing import TYPE_CHECKING

from git_theta_ext.diff.words import human_bytes, plural
from git_theta_ext.errors import ThetaError
from git_theta_ext.merging.apply import apply
from git_theta_ext.merging.execution.tasks import digests_of, tasks_of
from git_theta_ext.merging.planning.casts import find_casts, values_to_read
from git_theta_ext.merging.planning.plan import plan as plan_merge
from git_theta_ext.model.conflict_reasons import ConflictCode, Reason
from git_theta_ext.operations.merge.adapter_configs import with_adapter_scales
from git_theta_ext.operations.merge.statistics import outdated, statistics_beside
from git_theta_ext.operations.sync.fetch import ensure_digests
from git_theta_ext.statistics.sidecar import is_statistics
from git_theta_ext.util.libraries import absent, is_installed
from git_theta_ext.util.threads import LARGEST_KEPT, keep_freed_memory, no_progress

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from git_theta_ext.git.repository import Repository
    from git_theta_ext.merging.apply import Outcome
    from git_theta_ext.merging.execution.engine import Engine
    from git_theta_ext.merging.execution.journal import Journal
    from git_theta_ext.merging.execution.memory import Budget
    from git_theta_ext.merging.execution.tasks import Statistics
    from git_theta_ext.merging.planning.plan import Plan
    from git_theta_ext.merging.rules.rules import Rules
    from git_theta_ext.model.manifest import Manifest
    from git_theta_ext.operations.workspace import Workspace


def bytes_to_compute(plan: Plan) -> int:
    """Return the bytes of all results that a plan asks for."""
    return sum(d.value.spec.nbytes for d in plan.decisions if d.computed and d.value is not None)


def announcement(budget: Budget) -> str:
    """Tell what a merge computes and what memory that needs, in one line."""
    names = list(dict.fromkeys(name for name, _ in budget.peaks))
    most = human_bytes(max((nbytes for _, nbytes in budget.peaks), default=0))
    text = f"merging {plural(budget.parameters, 'parameter')} ({human_bytes(budget.reads)} to read)"
    text += f" by {_listed(budget.methods)} on {_listed(names)}, at most {most} of memory"
    text += " there each" if len(names) > 1 else ""
    return text + (f"; {len(budget.spilled)} on cpu for want of memory elsewhere" if budget.spilled else "")


def _listed(words: Sequence[str]) -> str:
    return " and ".join(filter(None, [", ".join(words[:-1]), words[-1]]))


def merge(
    workspace: Workspace,
    plan: Plan,
    path: str,
    advance: Callable[[int], None],
    commits: Sequence[str],
) -> Outcome:
    """Carry out a plan on the devices that ``theta.merge.device`` names, going on where a merge that was killed was.

    What it is going to compute is reported before.

    Args:
        workspace: The repository and its store.
        plan: What to do.
        path: Of the checkpoint.
        advance: Told the number of bytes of each tensor that is done.
        commits: Of each side, beside whose checkpoints statistics may lie.

    Raises:
        ConfigError: There is no such device.
        ThetaError: As ``git_theta_ext.merging.apply.apply``.
    """
    from git_theta_ext.merging.execution.journal import Journal

    def announce(budget: Budget) -> None:
        workspace.reporter.note(f"{path}: {announcement(budget)}")

    plan = with_adapter_scales(workspace, plan, path, commits)
    statistics, notes = statistics_for(workspace, plan, path, commits)
    journal = Journal(_journal(workspace.repo, path))
    outcome = apply(plan, workspace.store, lambda: engine(workspace, journal, statistics, advance, announce), advance)
    journal.done()
    return replace(outcome, notes=(*outcome.notes, *notes))


def planned(workspace: Workspace, base: Manifest | None, sides: Sequence[Manifest], rules: Rules) -> Plan:
    """Plan a merge of git's; statistics that several sides added are merged, for they have no common ancestor.

    Values are read, and fetched from a remote if they are not here, only of parameters of which a side changed the
    element type.

    Raises:
        MergeError: A rule that is needed has weights for another number of sides.
        PluginError: There is no such format.
        StoreError: The store cannot be read.
    """
    with suppress(ThetaError):  # what cannot be had ends as a conflict that says so
        ensure_digests(workspace, set(values_to_read(base, sides)))
    casts = find_casts(workspace.store, base, sides)
    baseless = all(is_statistics(side.parameters) for side in sides)
    return plan_merge(base, sides, rules, baseless=baseless, casts=casts)


def without_torch(plan: Plan) -> Plan:
    """Return what can be done of a plan if torch is not installed: what methods would merge is left in conflict."""
    methods = sorted({decision.choice.method for decision in plan.decisions if decision.action == "compute"})
    if not methods or is_installed("torch"):
        return plan
    error = absent("torch", f"merging by {_listed(methods)}")
    postponed = plan.postponed(Reason.of(ConflictCode.FAILED, error.message), exact=False)
    return replace(postponed, notes=(*plan.notes, f"{error.message}: {error.hint}"))


def engine(
    workspace: Workspace,
    journal: Journal | None = None,
    statistics: Statistics | None = None,
    advance: Callable[[int], None] = no_progress,
    announce: Callable[[Budget], None] | None = None,
) -> Engine:
    """Return what computes on the devices that ``theta.merge.device`` names.

    Raises:
        ConfigError: There is no such device.
        LibraryError: Torch is not installed.
    """
    from git_theta_ext.merging.devices.open import open_devices
    from git_theta_ext.merging.execution.engine import Engine

    keep_freed_memory(LARGEST_KEPT)
    devices = open_devices(workspace.settings.merge_device)
    return Engine(workspace.store, devices, journal, statistics, advance, announce=announce)


def statistics_for(workspace: Workspace, plan: Plan, path: str, commits: Sequence[str]) -> tuple[Statistics, list[str]]:
    """Find the statistics that a plan's methods need, fetched as far as a remote has them.

    Args:
        workspace: The repository and its store.
        plan: What is merged.
        path: Of the checkpoint.
        commits: Of each side, beside whose checkpoints statistics may lie.

    Returns:
        The statistics, and what the user should know of them.
    """
    beside = statistics_beside(workspace.repo, plan, path, commits)
    if not beside:
        return {}, []
    found = {number: manifest.parameters for number, manifest in beside.items()}
    with suppress(ThetaError):  # what cannot be had ends as a conflict that says so
        ensure_digests(workspace, digests_of(tasks_of(plan.decisions, found)))
    return found, outdated(workspace, plan, beside)


def _journal(repo: Repository, path: str) -> Path:
    from blake3 import blake3

    return repo.git_dir / "theta" / "merging" / blake3(os.fsencode(path)).hexdigest()[:32]
