"""Merge a checkpoint by a plan."""

from __future__ import annotations

from typing import TYPE_CHECKING

from git_theta_ext.merging.outcome import taken
from git_theta_ext.merging.planning.adapters import has_scaled_pairs

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from contextlib import AbstractContextManager

    from git_theta_ext.merging.outcome import Outcome
    from git_theta_ext.merging.planning.plan import Plan
    from git_theta_ext.operations.workspace import Workspace


def merge(  # noqa: PLR0913 - as execute
    workspace: Workspace,
    plan: Plan,
    path: str,
    commits: Sequence[str],
    *,
    label: str,
    meanwhile: Callable[[Callable[[], Outcome]], AbstractContextManager[None]] | None = None,
) -> Outcome:
    """Merge a checkpoint; see ``git_theta_ext.operations.merge.computation.execute``."""
    changed = {decision.name for decision in plan.decisions if decision.changed_by}
    if plan.takes_all and not has_scaled_pairs((decision.name for decision in plan.decisions), changed):
        return taken(plan)
    # Importing this takes as long as all else that a merge does that takes every value.
    from git_theta_ext.merging.apply import apply
    from git_theta_ext.operations.merge.computation import execute

    return execute(workspace, plan, [path], commits, apply, label=label, meanwhile=meanwhile)
