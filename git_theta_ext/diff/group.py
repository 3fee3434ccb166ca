"""Fold the parameters of a diff into few rows: names that differ only in their numbers share a row."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from itertools import chain
from typing import TYPE_CHECKING

from git_theta_ext.model.lora_names import module_of
from git_theta_ext.model.units import LORA, QUANTISED, common_name, one_row

if TYPE_CHECKING:
    from collections.abc import Callable, Container, Iterable, Mapping, Sequence

    from git_theta_ext.diff.compare import Diff
    from git_theta_ext.diff.distance import Distance
    from git_theta_ext.model.units import Unit

_SEPARATOR = re.compile(r"([./])")
_LONGEST_RANGES = 24


@dataclass(frozen=True, slots=True)
class Item:
    """One changed parameter.

    Attributes:
        sign: ``+`` added, ``-`` removed, ``~`` modified, ``>`` renamed.
        name: The parameter's name.
        spec: Element type and shape, of both versions if they differ.
        was: The old name of a renamed parameter.
        distances: Those of its parameters whose values are available and can be compared.
        members: The parameters of a unit, if the item stands for these.
    """

    sign: str
    name: str
    spec: str
    was: str = ""
    distances: tuple[Distance, ...] = ()
    members: tuple[str, ...] = ()

    @property
    def names(self) -> tuple[str, ...]:
        """The parameters that the item stands for."""
        return self.members or (self.name,)


@dataclass(frozen=True, slots=True)
class Row:
    """One or more changed parameters with the same sign.

    Attributes:
        label: The name, or the pattern that the names share.
        spec: Element type and shape, or what the parameters' specs share.
        items: At least one.
    """

    label: str
    spec: str
    items: tuple[Item, ...]


def items_of(diff: Diff, distances: Mapping[str, Distance]) -> list[Item]:
    """List the changed parameters by name."""
    items = [Item("+", name, str(p.spec)) for name, p in diff.added.items()]
    items += [Item("-", name, str(p.spec)) for name, p in diff.removed.items()]
    items += [Item(">", name, str(r.parameter.spec), r.old_name) for name, r in diff.renamed.items()]
    for name, change in diff.modified.items():
        old, new = change.old.spec, change.new.spec
        if old == new:
            spec = str(new)
        elif old.shape == new.shape:
            spec = f"{old.dtype.name} -> {new}"
        else:
            spec = f"{old} -> {new}"
        distance = distances.get(name)
        items.append(Item("~", name, spec, "", () if distance is None else (distance,)))
    kinds = (QUANTISED, LORA)
    return sorted(by_unit(items, diff.units, _joint_sign, " -> ", kinds), key=lambda item: item.name)


def by_unit(
    items: Iterable[Item],
    units: Iterable[Unit],
    sign: Callable[[Sequence[str]], str],
    between: str = " or ",
    kinds: Container[str] = (QUANTISED,),
) -> list[Item]:
    """Replace the parts of quantised weights, or of other units, by one item for each.

    Args:
        items: One for each parameter.
        units: Units.
        sign: Returns the sign of a unit from those of its parts, which differ.
        between: Separates how the versions represent the weight.
        kinds: The kinds of units.
    """
    homes = one_row(units, kinds)
    parts: dict[str, list[Item]] = {}
    joined: list[Item] = []
    for item in items:
        if item.name in homes:
            parts.setdefault(homes[item.name].members[0], []).append(item)
        else:
            joined.append(item)
    for members in parts.values():
        unit = homes[members[0].name]
        signs = list(dict.fromkeys(item.sign for item in members))
        was = _old_name(unit, [item.was for item in members if item.was]) if members[0].was else ""
        names = tuple(item.name for item in members)
        joint = signs[0] if len(signs) == 1 else sign(signs)
        # The distance between the integers of quantised weights says nothing.
        distances = () if unit.kind == QUANTISED else tuple(chain.from_iterable(item.distances for item in members))
        detail = between.join(unit.details)
        spec = f"LoRA, {detail}" if unit.kind == LORA else detail
        joined.append(Item(joint, unit.name, spec, was if joint == ">" else "", distances, names))
    return joined


def _old_name(unit: Unit, names: Sequence[str]) -> str:
    return module_of(names[0]) if unit.kind == LORA else common_name(names).removesuffix(".weight")


def _joint_sign(_: Sequence[str]) -> str:
    return "~"


def fold(items: Sequence[Item], most: int) -> list[Row]:
    """Group parameters into at most ``most`` rows with as much detail as possible.

    Names that differ only in their numbers share a row. If there are still too many rows, names are cut to fewer and
    fewer components.
    """
    rows = _rows(items, None)
    depth = max((len(_pattern(item.name)[0]) for item in items), default=0)
    while len(rows) > most and depth > 0:
        depth -= 1
        rows = _rows(items, depth)
    return rows


def printable(name: str) -> str:
    """Return a name for a terminal: as it is, or in JSON quotes with control characters escaped."""
    return name if name.isprintable() and name == name.strip() and name else json.dumps(name)


def _pattern(name: str) -> tuple[tuple[str, ...], tuple[int, ...]]:
    parts = _SEPARATOR.split(name)
    numbers = tuple(int(part) for part in parts if _is_number(part))
    return tuple("{}" if _is_number(part) else part for part in parts), numbers


def _is_number(part: str) -> bool:
    return part.isascii() and part.isdigit() and len(part) <= 9  # noqa: PLR2004 - longer ones are hashes


def _rows(items: Iterable[Item], depth: int | None) -> list[Row]:
    groups: dict[tuple[object, ...], list[Item]] = {}
    for item in items:
        pattern, _ = _pattern(item.name)
        spec = item.spec if depth is None else ""
        groups.setdefault((item.sign, spec, pattern[:depth]), []).append(item)
    return [_row(group, depth) for group in groups.values()]


def _row(items: list[Item], depth: int | None) -> Row:
    specs = sorted({item.spec for item in items})
    spec = specs[0] if len(specs) == 1 else f"{_common_dtype(specs)} {len(specs)} shapes".lstrip()
    if len(items) == 1:
        return Row(printable(items[0].name), spec, tuple(items))
    patterns = [_pattern(item.name) for item in items]
    parts = patterns[0][0]
    if len({pattern for pattern, _ in patterns}) > 1:
        parts = (*parts[:depth], "**")
    label: list[str] = []
    slot = 0
    for part in parts:
        if part == "{}":
            label.append(_ranges({numbers[slot] for _, numbers in patterns}))
            slot += 1
        else:
            label.append(part if part == "**" or not part else printable(part))
    return Row("".join(label), spec, tuple(items))


def _common_dtype(specs: Iterable[str]) -> str:
    kinds = {spec.split(" ")[0] for spec in specs}
    return kinds.pop() if len(kinds) == 1 else ""


def _ranges(numbers: set[int]) -> str:
    ordered = sorted(numbers)
    if len(ordered) == 1:
        return str(ordered[0])
    runs: list[list[int]] = []
    for number in ordered:
        if runs and number == runs[-1][1] + 1:
            runs[-1][1] = number
        else:
            runs.append([number, number])
    text = ",".join(str(low) if low == high else f"{low}-{high}" for low, high in runs)
    return "{" + (text if len(text) <= _LONGEST_RANGES else f"{ordered[0]}…{ordered[-1]}") + "}"
