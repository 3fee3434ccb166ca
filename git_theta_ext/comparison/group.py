"""Fold parameters into few rows: names that differ only in their numbers share a row."""

from __future__ import annotations

import json
import re
from functools import lru_cache
from typing import TYPE_CHECKING, Generic, Protocol, TypeVar

from git_theta_ext.model.units import one_row
from git_theta_ext.records import dataclass

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

    from git_theta_ext.model.units import Unit

_SEPARATOR = re.compile(r"([./])")
_LONGEST_RANGES = 24
_DIGITS = 9
"""The most digits of a number in a name; longer ones are hashes."""
_Pattern = tuple[tuple[str, ...], tuple[int, ...]]


class Named(Protocol):
    """What can share a row with others."""

    @property
    def sign(self) -> str:
        """A character for what happens to it; only those of the same sign share a row."""

    @property
    def name(self) -> str:
        """The parameter's name."""

    @property
    def spec(self) -> str:
        """Element type and shape."""


N = TypeVar("N", bound=Named)


@dataclass(frozen=True, slots=True)
class Item:
    """One parameter.

    Attributes:
        sign: A character for what happens to it.
        name: The parameter's name.
        spec: Element type and shape, of both versions if they differ.
        members: The parameters of a unit, if the item stands for these.
    """

    sign: str
    name: str
    spec: str
    members: tuple[str, ...] = ()

    @property
    def names(self) -> tuple[str, ...]:
        """The parameters that the item stands for."""
        return self.members or (self.name,)


@dataclass(frozen=True, slots=True)
class Row(Generic[N]):
    """One or more parameters with the same sign.

    Attributes:
        label: The name, or the pattern that the names share.
        spec: Element type and shape, or what the parameters' specs share.
        items: At least one.
    """

    label: str
    spec: str
    items: tuple[N, ...]


def by_unit(items: Iterable[Item], units: Iterable[Unit], sign: Callable[[Sequence[str]], str]) -> list[Item]:
    """Replace the parts of quantised weights by one item for each weight.

    Args:
        items: One for each parameter.
        units: Units.
        sign: Returns the sign of a unit from those of its parts, which differ.
    """
    homes = one_row(units)
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
        joint = signs[0] if len(signs) == 1 else sign(signs)
        joined.append(Item(joint, unit.name, " or ".join(unit.details), tuple(item.name for item in members)))
    return joined


def fold(items: Sequence[N], most: int = 0) -> list[Row[N]]:
    """Group parameters into at most ``most`` rows with as much detail as possible; 0 for no limit.

    Names that differ only in their numbers share a row. If there are still too many rows, names are cut to fewer and
    fewer components.
    """
    rows = _rows(items, None)
    depth = max((len(_pattern(item.name)[0]) for item in items), default=0)
    while 0 < most < len(rows) and depth > 0:
        depth -= 1
        rows = _rows(items, depth)
    return rows


def common_module(names: Sequence[str], others: Sequence[str]) -> str:
    """Return the module that holds all of some parameters, such as ``layers.{4-5}``.

    Args:
        names: The parameters.
        others: The other parameters of the model.

    Returns:
        Nothing for a single parameter, and if the module holds all others, too.
    """
    if len(names) < 2:  # noqa: PLR2004 - a single one is shown by its name
        return ""
    patterns = [_pattern(name) for name in names]
    shared = list(_shared([parts for parts, _ in patterns]))
    while shared and _SEPARATOR.fullmatch(shared[-1]) is None:
        shared.pop()
    parts = tuple(shared[:-1])
    slots = parts.count("{}")
    sets = [{numbers[slot] for _, numbers in patterns} for slot in range(slots)]

    def holds(name: str) -> bool:
        own, numbers = _pattern(name)
        inside = own[: len(parts)] == parts
        return inside and all(number in known for number, known in zip(numbers, sets, strict=False))

    if not parts or all(map(holds, others)):
        return ""
    ranges = iter(sets)
    return "".join(_ranges(next(ranges)) if part == "{}" else part and printable(part) for part in parts)


def _shared(every: Sequence[tuple[str, ...]]) -> Iterator[str]:
    """Yield what all begin with."""
    for parts in zip(*every, strict=False):
        if len(set(parts)) > 1:
            return
        yield parts[0]


def printable(name: str) -> str:
    """Return a name for a terminal: as it is, or in JSON quotes with control characters escaped."""
    return name if name.isprintable() and name == name.strip() and name else json.dumps(name)


@lru_cache(1 << 18)  # a model of more parameters than fit here finds none of them in a second pass
def _pattern(name: str) -> _Pattern:
    parts: list[str] = _SEPARATOR.split(name)
    numbers: list[int] = []
    for at, part in enumerate(parts):
        if part.isdigit() and part.isascii() and len(part) <= _DIGITS:
            numbers.append(int(part))
            parts[at] = "{}"
    return _one(tuple(parts)), tuple(numbers)


@lru_cache(1 << 16)
def _one(shape: tuple[str, ...]) -> tuple[str, ...]:
    """Return the same object for equal shapes, so that these are quick to tell apart."""
    return shape


def _rows(items: Iterable[N], depth: int | None) -> list[Row[N]]:
    groups: dict[tuple[str, str, tuple[str, ...]], list[N]] = {}
    for item in items:
        pattern, _ = _pattern(item.name)
        spec = item.spec if depth is None else ""
        groups.setdefault((item.sign, spec, pattern[:depth]), []).append(item)
    return [_row(group, depth, [key[1]] if depth is None else ()) for key, group in groups.items()]


def _row(items: list[N], depth: int | None, known: Sequence[str] = ()) -> Row[N]:
    specs = known or sorted({item.spec for item in items})
    spec = specs[0] if len(specs) == 1 else f"{_common_dtype(specs)} {len(specs)} shapes".lstrip()
    if len(items) == 1:
        return Row(printable(items[0].name), spec, tuple(items))
    return Row(_label([_pattern(item.name) for item in items], depth), spec, tuple(items))


@lru_cache(1 << 8)  # the commits of a history mostly change the same parameters
def labels(names: tuple[str, ...], most: int) -> tuple[str, ...]:
    """Return at most ``most`` patterns that cover some names, with as much detail as possible."""
    if len(names) == 1:
        return (printable(names[0]),)
    patterns = [*map(_pattern, names)]
    shapes = {id(shape): shape for shape, _ in patterns}
    longest = max(map(len, shapes.values()), default=0)
    depth = 0
    while depth < longest and len({shape[: depth + 1] for shape in shapes.values()}) <= most:
        depth += 1
    groups: dict[tuple[str, ...], list[_Pattern]] = {shape[:depth]: [] for shape in shapes.values()}
    members = {number: groups[shape[:depth]] for number, shape in shapes.items()}
    for pattern in patterns:
        members[id(pattern[0])].append(pattern)
    return tuple(_label(group, depth) for group in groups.values())


def _label(patterns: Sequence[_Pattern], depth: int | None) -> str:
    parts = patterns[0][0]
    if any(shape is not parts for shape, _ in patterns):
        parts = (*parts[:depth], "**")
    label: list[str] = []
    slot = 0
    for part in parts:
        if part == "{}":
            label.append(_ranges({numbers[slot] for _, numbers in patterns}))
            slot += 1
        else:
            label.append(part if part == "**" or not part else printable(part))
    return "".join(label)


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
