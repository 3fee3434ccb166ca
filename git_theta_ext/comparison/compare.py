"""Compare two manifests by their digests alone."""

from __future__ import annotations

from itertools import chain
from typing import TYPE_CHECKING

from git_theta_ext.comparison.renames import find_renames
from git_theta_ext.model.lora_names import loras
from git_theta_ext.model.quantised_weights import quantised_weights
from git_theta_ext.records import dataclass, field

if TYPE_CHECKING:
    from collections.abc import Mapping

    from git_theta_ext.comparison.lora_updates import LoraChange
    from git_theta_ext.model.conflicts import Conflict, LayoutConflict
    from git_theta_ext.model.manifest import Manifest, Parameter
    from git_theta_ext.model.tensor import TensorSpec
    from git_theta_ext.model.units import Unit


@dataclass(frozen=True, slots=True)
class ParameterVersions:
    """The two versions of a modified parameter."""

    old: Parameter
    new: Parameter


@dataclass(frozen=True, slots=True)
class Rename:
    """A parameter that has the same value under a new name."""

    old_name: str
    parameter: Parameter


@dataclass(frozen=True, slots=True)
class Move:
    """A parameter that another file of the model holds.

    Attributes:
        old: Path of the file in the older version.
        new: Path of the file in the newer version.
    """

    old: str
    new: str


@dataclass(frozen=True)
class Diff:
    """The difference between two manifests, or two versions of a model; either may be absent.

    Attributes:
        old_format: None if the checkpoint is new.
        new_format: None if the checkpoint was deleted.
        added: Name to parameter.
        removed: Name to parameter.
        modified: Name to both versions.
        renamed: New name to the old name and the parameter.
        unchanged: Names of unchanged parameters.
        layout_changed: Whether the file's order, names or literal bytes differ.
        fresh: Number of tensors in the newer version that the older version has under no name; all tensors of the older
            version if the checkpoint was deleted.
        fresh_bytes: Their size.
        total: Number of tensors in that version.
        total_bytes: Their size.
        conflicts: Unresolved conflicts of the newer version.
        layout_conflict: Unresolved conflict about the layout of the newer version.
        moved: Name to both files of a parameter that is in another file of the model, whether it was modified or not.
        old_files: Paths of the older version's files, as far as these are known.
        new_files: Paths of the newer version's files.
        units: Quantised weights and LoRAs of which parts or scales differ.
        updates: How the updates of LoRAs differ, as far as this was measured, by the first member of the unit.
    """

    old_format: str | None
    new_format: str | None
    added: Mapping[str, Parameter]
    removed: Mapping[str, Parameter]
    modified: Mapping[str, ParameterVersions]
    renamed: Mapping[str, Rename]
    unchanged: tuple[str, ...]
    layout_changed: bool
    fresh: int
    fresh_bytes: int
    total: int
    total_bytes: int
    conflicts: tuple[Conflict, ...] = ()
    layout_conflict: LayoutConflict | None = None
    moved: Mapping[str, Move] = field(default_factory=dict)
    old_files: tuple[str, ...] = ()
    new_files: tuple[str, ...] = ()
    units: tuple[Unit, ...] = ()
    updates: Mapping[str, LoraChange] = field(default_factory=dict)

    @property
    def empty(self) -> bool:
        """Whether there are neither differences nor conflicts."""
        same = self.old_format == self.new_format and not self.layout_changed
        values = self.added or self.removed or self.modified or self.renamed
        return same and not (values or self.updates or self.moved or self.conflicted)

    @property
    def conflicted(self) -> bool:
        """Whether the newer version has conflicts."""
        return bool(self.conflicts or self.layout_conflict)


def compare(old: Manifest | None, new: Manifest | None) -> Diff:
    """Compare two versions of a checkpoint.

    Args:
        old: The earlier version, or None.
        new: The later version, or None.
    """
    before = {} if old is None else dict(old.parameters)
    after = {} if new is None else dict(new.parameters)
    added = {name: parameter for name, parameter in after.items() if name not in before}
    removed = {name: parameter for name, parameter in before.items() if name not in after}
    shared = [name for name in after if name in before]
    changed = [name for name in shared if before[name] is not after[name] and before[name] != after[name]]
    modified = {name: ParameterVersions(before[name], after[name]) for name in changed}
    renamed = _renames(removed, added)
    for name, rename in renamed.items():
        del added[name], removed[rename.old_name]
    old_digests = {parameter.digest for parameter in before.values()}
    counted = after if new is not None else before
    fresh = [p for p in counted.values() if new is None or p.digest not in old_digests]
    return Diff(
        old_format=None if old is None else old.format,
        new_format=None if new is None else new.format,
        added=added,
        removed=removed,
        modified=modified,
        renamed=renamed,
        unchanged=tuple(name for name in shared if name not in modified),
        layout_changed=old is not None and new is not None and old.skeleton != new.skeleton,
        fresh=len(fresh),
        fresh_bytes=sum(p.spec.nbytes for p in fresh),
        total=len(counted),
        total_bytes=sum(p.spec.nbytes for p in counted.values()),
        conflicts=() if new is None else new.conflicts,
        layout_conflict=None if new is None else new.layout_conflict,
        units=_units(
            old, new, {*added, *removed, *modified, *renamed, *(rename.old_name for rename in renamed.values())}
        ),
    )


def _units(old: Manifest | None, new: Manifest | None, changed: set[str]) -> tuple[Unit, ...]:
    """Return the quantised weights and LoRAs of which parts changed or are in conflict."""
    conflicts = {} if new is None else {conflict.name: conflict for conflict in new.conflicts}
    changed |= conflicts.keys()
    if not changed:
        return ()
    before, after = ({} if side is None else side.parameters for side in (old, new))
    versions = {name: [_spec(before.get(name)), _spec(after.get(name))] for name in dict.fromkeys((*before, *after))}
    for name, conflict in conflicts.items():
        versions[name] = [_spec(before.get(name)), *map(_spec, conflict.sides)]
    units = chain(quantised_weights(versions), loras(versions))
    return tuple(unit for unit in units if not changed.isdisjoint(unit.members))


def _spec(parameter: Parameter | None) -> TensorSpec | None:
    return None if parameter is None else parameter.spec


def _renames(removed: Mapping[str, Parameter], added: Mapping[str, Parameter]) -> dict[str, Rename]:
    gone, new = ({name: (p.digest, p.spec.nbytes) for name, p in side.items()} for side in (removed, added))
    return {name: Rename(former, added[name]) for name, former in find_renames(gone, new).items()}
