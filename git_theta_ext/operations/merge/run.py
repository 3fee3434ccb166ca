"""Merge a checkpoint by a plan."""

from __future__ import annotations

from typing import TYPE_CHECKING

from git_theta_ext.merging.outcome import taken
from git_theta_ext.merging.planning.adapters import has_scaled_pairs

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from contextlib import AbstractContextManager
    from pathlib import Path

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
    drafts: Path | None = None,
) -> Outcome:
    """Merge a checkpoint; see ``git_theta_ext.operations.merge.computation.execute``.

    Args:
        workspace: As for ``execute``.
        plan: As for ``execute``.
        path: As for ``execute``.
        commits: As for ``execute``.
        label: As for ``execute``.
        meanwhile: As for ``execute``.
        drafts: The directory to leave the merged file in for the checkout that follows; None to leave none.
    """
    changed = {decision.name for decision in plan.decisions if decision.changed_by}
    if plan.takes_all and not has_scaled_pairs((decision.name for decision in plan.decisions), changed):
        return taken(plan)
    # Importing this takes as long as all else that a merge does that takes every value.
    from git_theta_ext.merging.apply import apply
    from git_theta_ext.operations.merge.computation import execute
    from git_theta_ext.operations.merge.drafts import drafting

    with drafting(workspace, plan, path, drafts) as draft:
        outcome = execute(workspace, plan, [path], commits, apply, label=label, meanwhile=meanwhile, draft=draft)
        if draft is not None:
            draft.finish(outcome.manifest)
    return outcome
