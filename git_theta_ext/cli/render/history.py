"""The commits of ``git theta log`` as text and JSON.

Version 1 of the JSON is an object with ``commits``, one object each with these keys. Keys may be added to a version:

- ``commit``, ``parents``, ``author``, ``date`` (ISO 8601), ``subject``.
- ``models``: one object each with ``path``, ``old_path`` (null if the model is new), ``deleted``, ``files``, the names
  of parameters that were ``added``, ``removed`` and ``modified``, ``renamed`` (``name`` and ``old_name``), ``moved``
  (the number of parameters in another file of the model), ``unchanged`` (the number of other parameters in the files
  that changed), ``bytes`` (size of the new values). Of a merge, these are the parameters whose value no parent has.
  With ``--numbers`` also ``distances``: the keys of ``stats`` in the JSON of ``git theta diff``, by parameter.
- ``merges``: how a merge merged checkpoints, if it says so: ``path``, ``method``, ``commits`` (of each side).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from git_theta_ext.diff.group import labels, printable
from git_theta_ext.diff.words import human_bytes, listed, plural
from git_theta_ext.util.text import printable_line

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from git_theta_ext.diff.changed_names import ChangedNames
    from git_theta_ext.diff.changes import ModelChange
    from git_theta_ext.diff.screen import Screen
    from git_theta_ext.git.commit_log import Commit
    from git_theta_ext.merging.record import Record
    from git_theta_ext.operations.history.changes import ChangedModel, CommitChanges

SHORT = 9
"""Characters of a commit's id in text."""
_MOST_LABELS = 2
_MOST_GROUPS = 8
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
            yield from (cut(f"      {line}", screen.width) for line in _distances(measured(model)))
        elif patterns := _patterns(model.names):
            yield cut(f"      {patterns}", screen.width)


def _patterns(names: ChangedNames) -> str:
    """Return what the names have in common; nothing if all parameters changed, or the names have nothing in common."""
    every = names.every if names.unchanged or names.renamed else []
    patterns = labels(every, _MOST_LABELS) if every else []
    return "" if patterns == ["**"] else ", ".join(patterns)


def _distances(change: ModelChange) -> Iterator[str]:
    groups = change.groups(_MOST_GROUPS)
    width = max((len(group.label) for group in groups), default=0)
    for group in groups:
        relative = None if group.distance is None else group.distance.relative
        number = "" if relative is None else f"rel. change {relative:.1e}"
        yield f"{group.label:{width}}  {len(group.changes):4} {group.kind.value}  {number}".rstrip()
    yield from change.notes


def cut(text: str, width: int) -> str:
    """Return text for a line of a terminal; 0 is no limit."""
    line = printable_line(text)
    return f"{line[: width - 1]}…" if 0 < width < len(line) else line


def describe_merge(record: Record) -> str:
    """Say how a checkpoint was merged."""
    methods = dict.fromkeys([record.rules.defaults.words, *(rule.choice.method for rule in record.rules.rules)])
    sides = listed([commit[:SHORT] for commit in record.commits])
    resolved = f", resolved by {listed([step.rules.defaults.method for step in record.steps])}" if record.steps else ""
    return f"{printable(record.path)}: merged {sides} by {', '.join(methods)}{resolved}"


def describe_model(model: ChangedModel) -> str:
    """Say how a commit changed a model."""
    names = model.names
    path = printable(model.path)
    if model.deleted:
        return f"{path}: deleted, {plural(len(names.removed), 'parameter')}"
    if model.old_path is None:
        return f"{path}: new, {plural(len(names.added), 'parameter')}, {human_bytes(names.nbytes)}"
    if model.old_path != model.path:
        path = f"{printable(model.old_path)} -> {path}"
    return f"{path}: {_counts(names, len(model.files))}"


def _counts(names: ChangedNames, files: int) -> str:
    numbers = {
        "modified": len(names.modified),
        "added": len(names.added),
        "removed": len(names.removed),
        "renamed": len(names.renamed),
        "moved": names.moved,
    }
    words = [f"{number} {word}" for word, number in numbers.items() if number]
    if not words:
        return "no parameter changed"
    if names.unchanged:
        words.append(f"{names.unchanged} unchanged")
    size = f"; {human_bytes(names.nbytes)}" if names.nbytes else ""
    return f"{', '.join(words)}{size}{f' in {files} files' if files > 1 else ''}"


def commit_data(
    changes: CommitChanges, measured: Callable[[ChangedModel], ModelChange] | None = None
) -> dict[str, Any]:
    """Return a commit for JSON; see ``details``."""
    commit = changes.commit
    return {
        "commit": commit.oid,
        "parents": list(commit.parents),
        "author": commit.author,
        "date": commit.date,
        "subject": commit.subject,
        "models": [_model_data(model, measured) for model in changes.models],
        "merges": [
            {"path": record.path, "method": record.rules.defaults.method, "commits": list(record.commits)}
            for record in changes.records
        ],
    }


def _model_data(model: ChangedModel, measured: Callable[[ChangedModel], ModelChange] | None) -> dict[str, Any]:
    names = model.names
    data: dict[str, Any] = {} if measured is None else {"distances": {}}
    if measured is not None and names.modified:
        distances = measured(model).distances
        data["distances"] = {name: distance.to_dict() for name, distance in sorted(distances.items())}
    return data | {
        "path": model.path,
        "old_path": model.old_path,
        "deleted": model.deleted,
        "files": [file.path for file in model.files],
        "added": list(names.added),
        "removed": list(names.removed),
        "modified": list(names.modified),
        "renamed": [{"name": name, "old_name": former} for name, former in names.renamed.items()],
        "moved": names.moved,
        "unchanged": names.unchanged,
        "bytes": names.nbytes,
    }
