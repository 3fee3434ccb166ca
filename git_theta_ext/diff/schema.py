"""A diff as JSON, for tools.

Version 1 is an object with these keys; keys may be added within a version:

- ``schema``: name and version of this schema.
- ``path``, ``format`` (``old`` and ``new``, or null), ``summary`` (the counts of ``Diff``).
- ``parameters``: one object each with ``name``, ``change`` (``added``, ``removed``, ``modified`` or ``renamed``),
  ``old`` and ``new`` (``dtype``, ``shape``, ``digest``, or null); ``old_name`` for renamed ones; ``stats`` (the fields
  of ``Distance``) for modified ones whose values were available. Non-finite numbers are the strings "nan" and "inf".
- ``files``: the model's files in the ``old`` and the ``new`` version, if these are known. ``moved``: one object each
  for parameters that are in another file of the model, modified or not, with ``name``, ``old_file`` and ``new_file``.
- ``units``: the quantised weights and LoRAs of which parts differ: one object each with ``name``, ``kind``, ``detail``
  (such as ``gptq, 4 bits`` or ``rank 8``, of all versions) and ``parameters`` (also names of parts that do not
  differ).
- ``conflicts``: ``layout`` (the reason, or null) and ``parameters`` with ``name``, ``reason``, ``code`` (the kind of
  conflict, see docs/manifest.md) and the candidates ``base``, ``ours`` and ``theirs``.
"""

from __future__ import annotations

import math
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from git_theta_ext.diff.compare import Diff
    from git_theta_ext.diff.distance import Distance
    from git_theta_ext.model.manifest import Parameter

SCHEMA = "git-theta diff 1"


def to_json(path: str, diff: Diff, distances: Mapping[str, Distance]) -> dict[str, Any]:
    """Describe a diff in types that ``json.dumps`` accepts.

    Args:
        path: The checkpoint.
        diff: The differences.
        distances: The known distances of modified parameters, by name.

    Returns:
        An object of the schema above.
    """
    return {
        "schema": SCHEMA,
        "path": path,
        "format": {"old": diff.old_format, "new": diff.new_format},
        "summary": {
            "added": len(diff.added),
            "removed": len(diff.removed),
            "modified": len(diff.modified),
            "renamed": len(diff.renamed),
            "unchanged": diff.unchanged,
            "layout_changed": diff.layout_changed,
            "fresh": diff.fresh,
            "fresh_bytes": diff.fresh_bytes,
            "total": diff.total,
            "total_bytes": diff.total_bytes,
        },
        "parameters": sorted(_parameters(diff, distances), key=lambda row: str(row["name"])),
        "files": {"old": list(diff.old_files), "new": list(diff.new_files)},
        "moved": [
            {"name": name, "old_file": move.old, "new_file": move.new} for name, move in sorted(diff.moved.items())
        ],
        "units": [unit.to_dict() for unit in diff.units],
        "conflicts": {
            "layout": None if diff.layout_conflict is None else diff.layout_conflict.reason.text,
            "parameters": [
                {
                    "name": conflict.name,
                    "reason": conflict.reason.text,
                    "code": conflict.reason.code.value,
                    **{side: _parameter(candidate) for side, candidate in conflict.candidates.items()},
                }
                for conflict in diff.conflicts
            ],
        },
    }


def _parameters(diff: Diff, distances: Mapping[str, Distance]) -> Iterator[dict[str, Any]]:
    for name, parameter in diff.added.items():
        yield {"name": name, "change": "added", "old": None, "new": _parameter(parameter)}
    for name, parameter in diff.removed.items():
        yield {"name": name, "change": "removed", "old": _parameter(parameter), "new": None}
    for name, rename in diff.renamed.items():
        same = _parameter(rename.parameter)
        yield {"name": name, "change": "renamed", "old_name": rename.old_name, "old": same, "new": same}
    for name, change in diff.modified.items():
        row = {"name": name, "change": "modified", "old": _parameter(change.old), "new": _parameter(change.new)}
        if name in distances:
            row["stats"] = {key: _number(value) for key, value in asdict(distances[name]).items()}
        yield row


def _parameter(parameter: Parameter | None) -> dict[str, Any] | None:
    if parameter is None:
        return None
    spec = parameter.spec
    return {"dtype": spec.dtype.name, "shape": list(spec.shape), "digest": parameter.digest}


def _number(value: float | None) -> float | str | None:
    if value is None or math.isfinite(value):
        return value
    return "nan" if math.isnan(value) else "inf"
