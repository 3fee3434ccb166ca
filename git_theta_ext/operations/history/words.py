"""Say in a line how a commit changed or merged a model."""

from __future__ import annotations

from typing import TYPE_CHECKING

from git_theta_ext.comparison.words import human_bytes, listed, plural
from git_theta_ext.util.quoting import shown_path

if TYPE_CHECKING:
    from git_theta_ext.comparison.changed_names import ChangedNames
    from git_theta_ext.merging.record import Record
    from git_theta_ext.operations.history.changes import ChangedModel

SHORT = 9
"""Characters of a commit's id in text."""


def describe_merge(record: Record) -> str:
    """Say how a checkpoint was merged."""
    methods = dict.fromkeys([record.rules.defaults.words, *(rule.choice.method for rule in record.rules.rules)])
    sides = listed([commit[:SHORT] for commit in record.commits])
    resolved = f", resolved by {listed([step.rules.defaults.method for step in record.steps])}" if record.steps else ""
    return f"{shown_path(record.path)}: merged {sides} by {', '.join(methods)}{resolved}"


def describe_model(model: ChangedModel) -> str:
    """Say how a commit changed a model."""
    names = model.names
    path = shown_path(model.path)
    if model.deleted:
        return f"{path}: deleted, {plural(len(names.removed), 'parameter')}"
    if model.old_path is None:
        return f"{path}: new, {plural(len(names.added), 'parameter')}, {human_bytes(names.nbytes)}"
    if model.old_path != model.path:
        path = f"{shown_path(model.old_path)} -> {path}"
    return f"{path}: {_counts(names, len(model.files))}"


def _counts(names: ChangedNames, files: int) -> str:
    numbers = {
        "modified": len(names.modified),
        "added": len(names.added),
        "removed": len(names.removed),
        "renamed": len(names.renamed),
        "moved": names.moved,
        "re-sharded": len(names.resharded),
    }
    words = [f"{number} {word}" for word, number in numbers.items() if number]
    if not words:
        return "no parameter changed"
    if names.unchanged:
        words.append(f"{names.unchanged} unchanged")
    size = f"; {human_bytes(names.nbytes)}" if names.nbytes else ""
    return f"{', '.join(words)}{size}{f' in {files} files' if files > 1 else ''}"
