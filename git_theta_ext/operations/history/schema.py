"""The commits of ``git theta log`` as JSON.

Version 1 of the JSON is an object with ``commits``, one object each with these keys. Keys may be added to a version:

- ``commit``, ``parents``, ``author``, ``date`` (ISO 8601), ``subject``.
- ``models``: one object each with ``path``, ``old_path`` (null if the model is new), ``deleted``, ``files``, the names
  of parameters that were ``added``, ``removed`` and ``modified``, ``renamed`` (``name`` and ``old_name``), ``moved``
  (the number of parameters in another file of the model), ``resharded`` (names of tensors in other pieces, of which it
  is not known whether their values changed), ``unchanged`` (the number of other parameters in the files that changed),
  ``bytes`` (size of the new values). Of a merge, these are the parameters whose value no parent has. With
  ``--numbers`` also ``distances``: the keys of ``stats`` in the JSON of ``git theta diff``, by parameter or piece.
- ``merges``: how a merge merged checkpoints, if it says so: ``path``, ``method``, ``commits`` (of each side).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable

    from git_theta_ext.comparison.changes import ModelChange
    from git_theta_ext.operations.history.changes import ChangedModel, CommitChanges


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
        "resharded": list(names.resharded),
        "unchanged": names.unchanged,
        "bytes": names.nbytes,
    }
