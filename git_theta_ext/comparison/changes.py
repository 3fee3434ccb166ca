"""What changed between two versions of a model: the data that every output of a diff is made of.

``ModelChange`` is the whole. Its ``diff`` has the structure, found by digests alone. Its ``changes`` have one
``ParameterChange`` for each parameter that is not the same in both versions, with its ``Distance`` if both values were
available. Parameters that have a meaning only together, such as the parts of a quantised weight and the factors of a
LoRA, are one ``ParameterChange`` with ``members``. Its ``groups`` collect changes whose names differ only in their
numbers. A ``GroupChange`` has the distance of its members as if they were one tensor.

``comparison.schema`` describes the same as JSON.
"""

from __future__ import annotations

import math
from enum import Enum
from functools import cached_property
from typing import TYPE_CHECKING

from git_theta_ext.comparison.distance import combined
from git_theta_ext.comparison.group import fold, printable
from git_theta_ext.comparison.measure import common_rows, measurable
from git_theta_ext.model.lora_names import module_of
from git_theta_ext.model.units import LORA, QUANTISED, common_name, one_row
from git_theta_ext.records import dataclass, field
from git_theta_ext.util.quoting import shown_path

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from git_theta_ext.comparison.compare import Diff
    from git_theta_ext.comparison.distance import Distance
    from git_theta_ext.comparison.lora_updates import LoraChange
    from git_theta_ext.model.manifest import Parameter
    from git_theta_ext.model.units import Unit


class Kind(Enum):
    """How a parameter changed, in the order in which changes are shown."""

    REMOVED = "removed"
    ADDED = "added"
    RENAMED = "renamed"
    MODIFIED = "modified"

    @property
    def sign(self) -> str:
        """The character that marks it in text."""
        return {"added": "+", "removed": "-", "renamed": ">", "modified": "~"}[self.value]


@dataclass(frozen=True, slots=True)
class ParameterChange:
    """How a parameter changed, or several that have a meaning only together.

    Attributes:
        name: The parameter's name, or that of the unit.
        kind: How it changed.
        old: The old version; None if it was added, and for a unit.
        new: The new version; None if it was removed, and for a unit.
        old_name: The old name of a renamed parameter; empty for all others.
        distance: None if a value is not available, or the shapes of rows differ. See ``common_rows``.
        unit: What the members are together.
        members: The changes of a unit's parameters; empty for a parameter, and for a LoRA of which only the scale
            differs.
        update: How the update of a LoRA differs, if this is known; ``distance`` is then that of the updates.
    """

    name: str
    kind: Kind
    old: Parameter | None = None
    new: Parameter | None = None
    old_name: str = ""
    distance: Distance | None = None
    unit: Unit | None = None
    members: tuple[ParameterChange, ...] = ()
    update: LoraChange | None = None

    @property
    def sign(self) -> str:
        """The character that marks it in text."""
        return self.kind.sign

    @property
    def names(self) -> tuple[str, ...]:
        """The parameters that it stands for."""
        if self.unit is not None and not self.members:
            return self.unit.members
        return tuple(member.name for member in self.members) or (self.name,)

    @property
    def reshaped(self) -> bool:
        """Whether the shape changed."""
        return self.old is not None and self.new is not None and self.old.spec.shape != self.new.spec.shape

    @property
    def common_rows(self) -> int | None:
        """How many first rows the distance is about; None if it is about the whole tensors, or if there is none."""
        if self.distance is None or self.old is None or self.new is None:
            return None
        return common_rows(self.old.spec, self.new.spec)

    @property
    def recast(self) -> bool:
        """Whether the element type changed."""
        return self.old is not None and self.new is not None and self.old.spec.dtype != self.new.spec.dtype

    @property
    def structural(self) -> bool:
        """Whether more than values changed."""
        kept = self.kind is Kind.MODIFIED and not (self.reshaped or self.recast)
        return not kept or (self.unit is not None and len(self.unit.details) > 1)

    @property
    def unavailable(self) -> bool:
        """Whether the values could be measured, but are not in this repository."""
        if self.kind is not Kind.MODIFIED or self.distance is not None:
            return False
        if self.unit is not None:
            return self.unit.kind != QUANTISED and any(member.unavailable for member in self.members)
        return self.old is not None and self.new is not None and measurable(self.old.spec, self.new.spec)

    @property
    def spec(self) -> str:
        """Element type and shape, of both versions if they differ, or how the versions represent a unit."""
        if self.unit is not None:
            detail = " -> ".join(self.unit.details)
            if self.unit.kind != LORA:
                return detail
            return ", ".join(["LoRA", detail, *([] if self.update is None else self.update.rescaling)])
        specs = [version.spec for version in (self.old, self.new) if version is not None]
        if specs[0] == specs[-1]:
            return str(specs[0])
        if self.recast and not self.reshaped:
            return f"{specs[0].dtype.name} -> {specs[1]}"
        return " -> ".join(map(str, specs))


@dataclass(frozen=True, slots=True)
class GroupChange:
    """Changes of one kind whose names are alike.

    Attributes:
        label: The name, or the pattern that the names share.
        spec: Element type and shape, or what those of the parameters share.
        changes: At least one.
        distance: Of all members whose distance is known, as if they were one tensor.
    """

    label: str
    spec: str
    changes: tuple[ParameterChange, ...]
    distance: Distance | None = None

    @property
    def kind(self) -> Kind:
        """How its members changed."""
        return self.changes[0].kind


@dataclass(frozen=True)
class ModelChange:
    """How two versions of a model, or of a single checkpoint, differ.

    Attributes:
        path: The path that the model has, or would have, as one file.
        diff: The structure, and which parameters changed.
        distances: Of modified parameters whose values are available, by name.
        old_path: The path in the older version.
        notes: What to say besides.
    """

    path: str
    diff: Diff
    distances: Mapping[str, Distance] = field(default_factory=dict)
    old_path: str = ""
    notes: Sequence[str] = ()

    @property
    def headline(self) -> str:
        """The path for people, or both of a renamed model."""
        paths = (self.old_path, self.path) if self.old_path not in ("", self.path) else (self.path,)
        return " -> ".join(map(shown_path, paths))

    @cached_property
    def changes(self) -> tuple[ParameterChange, ...]:
        """What changed, by name; units are one change."""
        return tuple(sorted(_by_unit(list(self.parameters), self.diff), key=lambda change: change.name))

    @property
    def parameters(self) -> Iterator[ParameterChange]:
        """What changed, by parameter."""
        for name, added in self.diff.added.items():
            yield ParameterChange(name, Kind.ADDED, new=added)
        for name, removed in self.diff.removed.items():
            yield ParameterChange(name, Kind.REMOVED, old=removed)
        for name, rename in self.diff.renamed.items():
            yield ParameterChange(name, Kind.RENAMED, rename.parameter, rename.parameter, rename.old_name)
        for name, versions in self.diff.modified.items():
            yield ParameterChange(name, Kind.MODIFIED, versions.old, versions.new, distance=self.distances.get(name))

    def groups(self, most: int = 0) -> list[GroupChange]:
        """Return the changes in groups: changes of the structure first, then those that changed most.

        Args:
            most: The most groups; names are cut to fewer components if there are more. 0 for no limit.
        """
        groups = [
            GroupChange(row.label, row.spec, row.items, combined([c.distance for c in row.items if c.distance]))
            for row in fold(self.changes, most)
        ]
        return sorted(groups, key=_order)

    def single(self) -> list[GroupChange]:
        """Return each change as a group of its own, in the same order."""
        groups = [GroupChange(printable(c.name), c.spec, (c,), c.distance) for c in self.changes]
        return sorted(groups, key=_order)


def _order(group: GroupChange) -> tuple[int, float, str]:
    structure = any(change.structural for change in group.changes)
    relative = None if group.distance is None else group.distance.relative
    moved = -1.0 if relative is None else math.inf if math.isnan(relative) else relative
    order = list(Kind).index(group.kind) if structure else len(Kind)
    return order, -moved, group.changes[0].name


def _by_unit(changes: Sequence[ParameterChange], diff: Diff) -> Iterator[ParameterChange]:
    """Replace the parts of quantised weights and LoRAs by one change for each."""
    homes = one_row(diff.units, (QUANTISED, LORA))
    parts: dict[str, list[ParameterChange]] = {}
    for change in sorted(changes, key=lambda change: change.name):
        if change.name in homes:
            parts.setdefault(homes[change.name].members[0], []).append(change)
        else:
            yield change
    for first, members in parts.items():
        yield _unit_change(homes[first], tuple(members), diff.updates.get(first))
    for unit in diff.units:
        if unit.members[0] in diff.updates.keys() - parts.keys():
            yield _unit_change(unit, (), diff.updates[unit.members[0]])


def _unit_change(unit: Unit, members: tuple[ParameterChange, ...], update: LoraChange | None) -> ParameterChange:
    kinds = {member.kind for member in members}
    kind = kinds.pop() if len(kinds) == 1 else Kind.MODIFIED
    old_names = [member.old_name for member in members if member.old_name]
    was = ""
    if kind is Kind.RENAMED:
        was = module_of(old_names[0]) if unit.kind == LORA else common_name(old_names).removesuffix(".weight")
    # The distance between the integers of quantised weights says nothing.
    known = [member.distance for member in members if member.distance] if unit.kind != QUANTISED else []
    distance = combined(known) if update is None else update.distance(combined(known))
    return ParameterChange(unit.name, kind, None, None, was, distance, unit, members, update)
