"""The commits of ``git theta log`` as text."""

from __future__ import annotations

from typing import TYPE_CHECKING

from git_theta_ext.comparison.group import labels
from git_theta_ext.comparison.words import shorten
from git_theta_ext.operations.history.words import SHORT, describe_merge, describe_model
from git_theta_ext.util.text import printable_line

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from git_theta_ext.comparison.changed_names import ChangedNames
    from git_theta_ext.comparison.changes import GroupChange, ModelChange
    from git_theta_ext.comparison.screen import Screen
    from git_theta_ext.git.commit_log import Commit
    from git_theta_ext.operations.history.changes import ChangedModel, CommitChanges

_MOST_LABELS = 2
_MOST_GROUPS = 8
_LEAST_NAME = 10
"""Characters of a parameter's name that are shown, however narrow the terminal is."""

_YELLOW = "33"


def headline(commit: Commit, screen: Screen) -> str:
    """Return a commit on one line."""
    rest = f" {commit.date[:10]} {commit.author}: {commit.subject}"
    return short(commit, screen) + cut(rest, screen.width and screen.width - SHORT)


def short(commit: Commit, screen: Screen) -> str:
    """Return the beginning of a commit's id, ``SHORT`` characters, coloured as git does it."""
    oid = commit.oid[:SHORT]
    return f"\x1b[{_YELLOW}m{oid}\x1b[m" if screen.colour else oid


def details(
    changes: CommitChanges, screen: Screen, measured: Callable[[ChangedModel], ModelChange] | None = None
) -> Iterator[str]:
    """Yield the lines below the headline: merges, models, and what the names of changed parameters share.

    Args:
        changes: The commit.
        screen: The terminal.
        measured: Returns how far parameters moved; None if that is not asked for.
    """
    for record in changes.records:
        yield cut(f"    {describe_merge(record)}", screen.width)
    for model in changes.models:
        yield cut(f"    {describe_model(model)}", screen.width)
        if measured is not None and model.names.modified:
            yield from (cut(f"      {line}", screen.width) for line in _distances(measured(model), screen.width - 6))
        elif patterns := _patterns(model.names):
            yield cut(f"      {patterns}", screen.width)


def _patterns(names: ChangedNames) -> str:
    """Return what the names have in common; nothing if all parameters changed, or the names have nothing in common."""
    every = names.every if names.unchanged or names.renamed else []
    patterns = labels(tuple(every), _MOST_LABELS) if every else ()
    return "" if patterns == ("**",) else ", ".join(patterns)


def _distances(change: ModelChange, room: int) -> Iterator[str]:
    """Yield a line for each group; its name is shortened rather than the numbers, if there is a limit above 0."""
    rows = [(group.label, _numbers(group)) for group in change.groups(_MOST_GROUPS)]
    width = max((len(label) for label, _ in rows), default=0)
    if room > 0:
        width = min(width, max(_LEAST_NAME, room - max((len(numbers) for _, numbers in rows), default=0)))
    yield from (f"{shorten(label, width):{width}}{numbers}" for label, numbers in rows)
    yield from change.notes


def _numbers(group: GroupChange) -> str:
    relative = None if group.distance is None else group.distance.relative
    number = "" if relative is None else f"  rel. change {relative:.1e}"
    return f"  {len(group.changes):4} {group.kind.value}{number}"


def cut(text: str, width: int) -> str:
    """Return text for a line of a terminal; 0 is no limit."""
    line = printable_line(text)
    return f"{line[: width - 1]}…" if 0 < width < len(line) else line
