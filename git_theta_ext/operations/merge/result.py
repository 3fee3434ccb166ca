"""Report the result of a merge to the user, and record it for the commit."""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING

from git_theta_ext.comparison.words import plural
from git_theta_ext.errors import StoreError, ThetaError
from git_theta_ext.git.operation import MERGE
from git_theta_ext.merging.rules.rules import APPLY, GROW
from git_theta_ext.model.conflict_reasons import ConflictCode
from git_theta_ext.operations.merge.record import note_merge, records_of
from git_theta_ext.util.quoting import shell_word, shown_path

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from git_theta_ext.git.operation import Operation
    from git_theta_ext.merging.outcome import Outcome
    from git_theta_ext.merging.record import Record, Step
    from git_theta_ext.operations.merge.notes import Results
    from git_theta_ext.operations.workspace import Workspace


def report(
    workspace: Workspace, path: str, outcome: Outcome, operation: Operation = MERGE, argument: str | None = None
) -> None:
    """Report the result of a merge, and how to resolve its conflicts.

    Args:
        workspace: The repository and its store.
        path: Path of the checkpoint, or name of a model of several files.
        outcome: The result.
        operation: The operation that git is performing.
        argument: What ``git theta resolve`` resolves; ``path`` if None.
    """
    reporter, argument = workspace.reporter, workspace.repo.argument(path if argument is None else argument)
    counts = sorted(outcome.computed.items())
    parts = [f"{outcome.taken} taken"]
    parts += [f"{count} merged by {method}" for method, count in counts if method != APPLY]
    parts += [f"the change applied to {plural(n, 'parameter')} that both changed" for m, n in counts if m == APPLY]
    if outcome.conflicts:
        parts.append("1 conflict" if outcome.conflicts == 1 else f"{outcome.conflicts} conflicts")
    reporter.note(
        f"{shown_path(path)}: {'' if operation.kind != 'replay' else f'{operation.name}: '}{', '.join(parts)}"
    )
    for note in outcome.notes:
        reporter.note(f"{shown_path(path)}: {note}")
    if not outcome.conflicts:
        return
    if operation.kind == "unknown":
        reporter.warning(
            f"{shown_path(path)}: {operation.name} may be a merge or the replay of a change",
            f"git theta resolve --method apply {argument} replays the change, --method average merges",
        )
    else:
        before = [] if operation.remade is None else _resolutions(workspace, operation.remade, path, argument)
        how = ", which the merge that is repeated resolved as the hint does" if before else ""
        reporter.warning(
            f"{shown_path(path)} has conflicts{how}",
            " && ".join(before) or _how_to_resolve(workspace, path, outcome, argument),
        )


def _how_to_resolve(workspace: Workspace, path: str, outcome: Outcome, argument: str) -> str:
    """Return the command for conflicts, after the one that aligns rows of tokens if some may be about these."""
    command = f"git theta resolve {argument}"
    if not any(conflict.reason.code is ConflictCode.SHAPE for conflict in outcome.manifest.conflicts):
        return command
    from git_theta_ext.operations.merge.token_alignment import can_align  # a driver starts without it

    if not can_align(workspace.repo, path, outcome.manifest):
        return command
    return f"git theta resolve --tokens {argument} gives rows to the same tokens; {command} lists the conflicts"


def _resolutions(workspace: Workspace, commit: str, path: str, argument: str) -> list[str]:
    """Return the commands that resolve the conflicts of a merge as its commit records it; none if it cannot be read."""
    with suppress(ThetaError):
        for record in records_of(workspace.repo, commit):
            if record.path == path:
                return [f"git theta resolve {_arguments(step, argument)}" for step in record.steps]
    return []


def _arguments(step: Step, argument: str) -> str:
    """Return the arguments of ``git theta resolve`` for a recorded resolution."""
    chosen = step.rules.defaults
    method, options = (GROW, {"method": chosen.method}) if chosen.grow else (chosen.method, {})
    words = [f"--option {shell_word(f'{name}={value}')}" for name, value in {**options, **chosen.options}.items()]
    return " ".join([f"--method {method}", *words, argument, *map(shell_word, step.patterns)])


def remember(workspace: Workspace, heads: Sequence[str], merged: Mapping[str, tuple[Record | None, Results]]) -> None:
    """Record how checkpoints were merged; a failure is reported and does not affect the merge.

    Args:
        workspace: The repository and its store.
        heads: The current commit, and those that are merged into it.
        merged: Path to its record, None if no rule mattered, and to the object ids of the merged files.
    """
    try:
        note_merge(workspace.repo, heads, merged)
    except StoreError as error:
        workspace.reporter.warning(f"the commit will not record how models were merged: {error.message}", error.hint)
