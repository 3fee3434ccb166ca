"""Choose the conflicts of a manifest to resolve, and find out which units they belong to."""

from __future__ import annotations

from fnmatch import fnmatchcase
from typing import TYPE_CHECKING

from git_theta_ext.errors import MergeError, UsageError
from git_theta_ext.merging.planning.units import units_of
from git_theta_ext.model.conflict_reasons import ConflictCode
from git_theta_ext.model.conflicts import side_names
from git_theta_ext.model.tensor_pieces import tensor_of

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from git_theta_ext.model.conflicts import Conflict
    from git_theta_ext.model.manifest import Manifest
    from git_theta_ext.model.tensor import TensorSpec
    from git_theta_ext.model.units import Unit


def chosen_conflicts(manifest: Manifest, patterns: Sequence[str]) -> list[Conflict]:
    """Return the conflicts that patterns name, with the others on the same units.

    Args:
        manifest: A manifest with conflicts.
        patterns: Names or globs of parameters, or names of units; empty for all conflicts.

    Raises:
        UsageError: A pattern matches no conflict.
    """
    if not patterns:
        return list(manifest.conflicts)
    matched: dict[str, Conflict] = {}
    units = conflicted_units(manifest)
    homes = {name: unit.name for unit in units for name in unit.members}
    for pattern in patterns:
        matching = [
            conflict
            for conflict in manifest.conflicts
            for names in [{conflict.name, tensor_of(conflict.name)}]
            if pattern in {*names, homes.get(conflict.name)} or any(fnmatchcase(name, pattern) for name in names)
        ]
        if not matching:
            hint = "git theta resolve PATH lists the conflicts"
            raise UsageError(f"{pattern!r} matches no parameter in conflict", hint=hint)
        matched.update({conflict.name: conflict for conflict in matching})
    return _with_units(manifest, matched, units)


def _with_units(manifest: Manifest, chosen: Mapping[str, Conflict], units: Sequence[Unit]) -> list[Conflict]:
    """Add the conflicts on parameters that belong to the same units, such as the other factor of a LoRA."""
    conflicts = {conflict.name: conflict for conflict in manifest.conflicts}
    with_units = dict(chosen)
    for unit in units:
        if not chosen.keys().isdisjoint(unit.members):
            with_units.update({name: conflicts[name] for name in unit.members if name in conflicts})
    return list(with_units.values())


def conflicted_units(manifest: Manifest) -> list[Unit]:
    """Return the units of which a manifest has parts in conflict."""
    names = {conflict.name for conflict in manifest.conflicts}
    return [unit for unit in units_of(specs_of_versions(manifest)) if not names.isdisjoint(unit.members)]


def specs_of_versions(manifest: Manifest) -> dict[str, list[TensorSpec | None]]:
    """Return the specs of all versions of all parameters, as far as a manifest has them."""
    count = max((len(conflict.candidates) for conflict in manifest.conflicts), default=1)
    versions: dict[str, list[TensorSpec | None]] = {
        name: [parameter.spec] * count for name, parameter in manifest.parameters.items()
    }
    for conflict in manifest.conflicts:
        versions[conflict.name] = [None if v is None else v.spec for v in conflict.candidates.values()]
    return versions


def sides_of(manifest: Manifest) -> tuple[str, ...]:
    """Return the names of the sides that a manifest's conflicts can be resolved to."""
    counts = [len(conflict.sides) for conflict in manifest.conflicts]
    counts += [len(manifest.layout_conflict.sides)] if manifest.layout_conflict is not None else []
    return ("base", *side_names(max(counts, default=2)))


def check_whole(manifest: Manifest, method: str, patterns: Sequence[str]) -> None:
    """Check that a file is resolved as a whole if its versions cannot be mixed.

    Args:
        manifest: A manifest with conflicts.
        method: The side or method.
        patterns: The parameters that are to be resolved; empty for all.

    Raises:
        MergeError: It can only be resolved in another way.
    """
    reasons = {conflict.reason for conflict in manifest.conflicts}
    if manifest.layout_conflict is not None:
        reasons.add(manifest.layout_conflict.reason)
    texts = {reason.code: reason.text for reason in reasons}
    if ConflictCode.FORMAT in texts and method != "ours":
        hint = f"git checkout --{method} PATH takes the other file as it is"
        raise MergeError(texts[ConflictCode.FORMAT], hint=hint)
    if ConflictCode.WHOLE_FILE in texts and (patterns or method not in sides_of(manifest)):
        raise MergeError(
            texts[ConflictCode.WHOLE_FILE], hint="git theta resolve --method ours (or theirs, base), without parameters"
        )
