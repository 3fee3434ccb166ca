"""A diff as JSON, for tools.

Version 1 is an object with these keys; keys may be added within a version:

- ``schema``: name and version of this schema.
- ``path``, ``format`` (``old`` and ``new``, or null), ``summary`` (the counts of ``Diff``). ``old_path``, if the model
  had another path. ``notes``: sentences for people.
- ``parameters``: one object each with ``name``, ``change`` (``added``, ``removed``, ``modified`` or ``renamed``),
  ``old`` and ``new`` (``dtype``, ``shape``, ``digest``, or null); ``old_name`` for renamed ones; ``reshaped`` and
  ``recast`` (booleans) for modified ones, and ``stats`` for those whose values were available and have one shape. If
  only the number of rows differs, ``stats`` are those of the first rows, and ``common_rows`` is their number.
- ``groups``: the same in groups of names that differ only in their numbers, those that changed most first; a quantised
  weight or a LoRA counts as one. Each has ``name`` (a pattern such as ``layers.{0-31}.mlp.up_proj.weight``),
  ``change``, ``spec`` (for people), ``parameters`` (names) and ``stats`` (of all as if they were one tensor), or null.
- ``stats``: ``elements``; ``changed``, how many of them differ, and ``share``, the same from 0 to 1; ``norm_old``,
  ``norm_new`` and ``norm``, that of the difference; ``relative``, which is ``norm / norm_old``; ``cosine`` of both
  versions; ``largest``, the largest absolute difference; ``flips``, the elements whose sign changed; ``nan_old``,
  ``nan_new``, ``infinite_old``, ``infinite_new`` and their sums ``nonfinite_old`` and ``nonfinite_new``; ``rank``, the
  number of singular values that hold 99.9 % of the change without rounding errors, and ``rank_exact``, which is false
  if the rank may be higher. What is not defined is null. Non-finite numbers are the strings "nan" and "inf".
- ``files``: the model's files in the ``old`` and the ``new`` version, if these are known. ``moved``: one object each
  for parameters that are in another file of the model, modified or not, with ``name``, ``old_file`` and ``new_file``.
- ``units``: the quantised weights and LoRAs of which parts differ: one object each with ``name``, ``kind``, ``detail``
  (such as ``gptq, 4 bits`` or ``rank 8``, of all versions) and ``parameters`` (also names of parts that do not
  differ). A LoRA whose values were available has ``update``: ``old`` and ``new`` with ``rank``, ``alpha``, ``scale``
  and ``norm`` (the Frobenius norm of ``scale * B @ A``), or null; and ``norm``, ``relative``, ``rank`` and
  ``energy_rank`` (how many singular values hold 99.9 % of it) of the difference. If a scale is null, all norms are
  those without scales. The ``stats`` of its group are those of the updates, without counts of elements if only the
  scale differs.
- ``conflicts``: ``layout`` (the reason, or null) and ``parameters`` with ``name``, ``reason``, ``code`` (the kind of
  conflict, see docs/manifest.md) and the candidates ``base``, ``ours`` and ``theirs``.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from git_theta_ext.comparison.changes import Kind

if TYPE_CHECKING:
    from git_theta_ext.comparison.changes import GroupChange, ModelChange, ParameterChange
    from git_theta_ext.comparison.lora_updates import LoraChange
    from git_theta_ext.model.manifest import Parameter
    from git_theta_ext.model.units import Unit

SCHEMA = "git-theta diff 1"


def to_json(change: ModelChange) -> dict[str, Any]:
    """Describe a diff in types that ``json.dumps`` accepts, by the schema above."""
    diff = change.diff
    renamed = {} if change.old_path in ("", change.path) else {"old_path": change.old_path}
    return {
        "schema": SCHEMA,
        "path": change.path,
        **renamed,
        "format": {"old": diff.old_format, "new": diff.new_format},
        "summary": {
            "added": len(diff.added),
            "removed": len(diff.removed),
            "modified": len(diff.modified),
            "renamed": len(diff.renamed),
            "unchanged": len(diff.unchanged),
            "layout_changed": diff.layout_changed,
            "fresh": diff.fresh,
            "fresh_bytes": diff.fresh_bytes,
            "total": diff.total,
            "total_bytes": diff.total_bytes,
        },
        "parameters": [_change(each) for each in sorted(change.parameters, key=lambda each: each.name)],
        "groups": [_group(group) for group in change.groups()],
        "files": {"old": list(diff.old_files), "new": list(diff.new_files)},
        "moved": [
            {"name": name, "old_file": move.old, "new_file": move.new} for name, move in sorted(diff.moved.items())
        ],
        "units": [_unit(unit, diff.updates.get(unit.members[0])) for unit in diff.units],
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
        "notes": list(change.notes),
    }


def _change(change: ParameterChange) -> dict[str, Any]:
    row: dict[str, Any] = {
        "name": change.name,
        "change": change.kind.value,
        "old": _parameter(change.old),
        "new": _parameter(change.new),
    }
    if change.kind is Kind.RENAMED:
        row["old_name"] = change.old_name
    if change.kind is Kind.MODIFIED:
        row |= {"reshaped": change.reshaped, "recast": change.recast}
    if change.distance is not None:
        row["stats"] = change.distance.to_dict()
    if change.common_rows is not None:
        row["common_rows"] = change.common_rows
    return row


def _group(group: GroupChange) -> dict[str, Any]:
    return {
        "name": group.label,
        "change": group.kind.value,
        "spec": group.spec,
        "parameters": [name for change in group.changes for name in change.names],
        "stats": None if group.distance is None else group.distance.to_dict(),
    }


def _unit(unit: Unit, update: LoraChange | None) -> dict[str, Any]:
    return unit.to_dict() if update is None else {**unit.to_dict(), "update": update.to_dict()}


def _parameter(parameter: Parameter | None) -> dict[str, Any] | None:
    if parameter is None:
        return None
    spec = parameter.spec
    return {"dtype": spec.dtype.name, "shape": list(spec.shape), "digest": parameter.digest}
