"""A merge report as text and JSON: parameters whose names differ only in numbers are one group.

Version 1 of the JSON is an object with these keys; keys may be added within a version:

- ``schema``: the name of the version; ``path``; ``commit``; ``method`` and ``rules`` as they were requested.
- ``taken``: side to the number of parameters that only it changed.
- ``groups``: one object each with ``label``, ``method``, ``state``, ``parameters`` (names) and ``sides``, and ``unit``
  (the kind) if the parameters are parts of units such as quantised weights. If the
  versions can be compared also with ``elements``; for each side ``distance`` (norm of its change over the norm of the
  ancestor), ``moved`` (share of the elements) and ``trimmed`` (share of its changed elements that was dropped);
  ``agreement`` (share of the elements changed by several sides that changed in the same direction); ``cosines`` of
  each two sides; ``energy`` (squared norm of the merge's change over the mean of the sides'); ``unmoved`` (share of the
  elements changed by some side that the merge left alone). Unknown values are null.
"""

from __future__ import annotations

import math
from collections import defaultdict
from functools import reduce
from itertools import combinations
from operator import add
from typing import TYPE_CHECKING, Any

from git_theta_ext.comparison.fitting import fitted
from git_theta_ext.comparison.group import Item, by_unit, fold
from git_theta_ext.comparison.words import percent, plural
from git_theta_ext.records import dataclass
from git_theta_ext.util.quoting import shown_path

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from git_theta_ext.merging.reporting.measures import Measures
    from git_theta_ext.merging.reporting.report import Row

SCHEMA = "git-theta merge report 1"
_MOST_GROUPS = 60
COLUMNS = ("group", "method", "change", "trimmed", "agree", "cosine", "energy")


@dataclass(frozen=True)
class Group:
    """Parameters that were merged in the same way.

    Attributes:
        label: What their names have in common.
        rows: At least one.
        measures: Of all of them together, None if they cannot be compared.
    """

    label: str
    rows: tuple[Row, ...]
    measures: Measures | None


def grouped(rows: Sequence[Row]) -> list[Group]:
    """Group parameters that were merged in the same way and whose names differ only in numbers."""
    alike: dict[tuple[object, ...], list[Row]] = defaultdict(list)
    for row in rows:
        alike[row.method, row.state, row.sides, row.measures is None].append(row)
    groups = []
    for similar in alike.values():
        named = {row.name: row for row in similar}
        items = [Item("~", row.name, str(row.spec)) for row in similar]
        units = dict.fromkeys(row.unit for row in similar if row.unit is not None)
        for folded in fold(by_unit(items, units, min), _MOST_GROUPS):
            members = tuple(named[name] for item in folded.items for name in item.names)
            measures = [row.measures for row in members if row.measures is not None]
            label = f"{folded.label} ({folded.spec})" if folded.items[0].members else folded.label
            groups.append(Group(label, members, reduce(add, measures) if measures else None))
    return sorted(groups, key=lambda group: group.rows[0].name)


def to_json(about: Mapping[str, Any], groups: Sequence[Group]) -> dict[str, Any]:
    """Describe a report in types that ``json.dumps`` takes.

    Args:
        about: ``path``, ``commit``, ``rules`` and ``taken``.
        groups: From ``grouped``.
    """
    return {"schema": SCHEMA, **about, "groups": list(map(_group, groups))}


def _group(group: Group) -> dict[str, Any]:
    first, measures = group.rows[0], group.measures
    data: dict[str, Any] = {"label": group.label, "method": first.method, "state": first.state}
    data |= {"sides": list(first.sides), "parameters": [row.name for row in group.rows]}
    data |= {} if first.unit is None else {"unit": first.unit.kind}
    if measures is None:
        return data
    pairs = list(combinations(range(len(first.sides)), 2))
    return data | {
        "elements": measures.elements,
        "distance": [value if math.isfinite(value) else None for value in measures.distances],
        "moved": [count / measures.elements if measures.elements else 0.0 for count in measures.moved],
        "trimmed": None if measures.trimmed is None else list(measures.trimmed),
        "agreement": measures.agreement,
        "cosines": [{"sides": [first.sides[a], first.sides[b]], "cosine": measures.cosine(a, b)} for a, b in pairs],
        "energy": measures.energy,
        "unmoved": measures.unmoved,
    }


def text(about: Mapping[str, Any], groups: Sequence[Group]) -> Iterator[str]:
    """Write a report for a terminal."""
    yield headline(about, groups)
    if groups:
        # What cannot be measured has a text instead of figures.
        yield from fitted([cells(group)[: None if group.measures else 3] for group in groups], COLUMNS)


def headline(about: Mapping[str, Any], groups: Sequence[Group]) -> str:
    """Summarise in a line what was merged."""
    parts = [f"{count} taken from {side}" for side, count in sorted(about["taken"].items())]
    methods: dict[str, int] = defaultdict(int)
    for group in groups:
        methods[group.rows[0].method] += len(group.rows)
    parts += [f"{plural(count, 'parameter')} by {method}" for method, count in sorted(methods.items())]
    return f"{shown_path(about['path'])} in {about['commit'][:12]}: {', '.join(parts)}"


def cells(group: Group) -> list[str]:
    """Return the cells of a group's row, below ``COLUMNS``."""
    first, measures = group.rows[0], group.measures
    label = group.label if len(group.rows) == 1 else f"{group.label} ({len(group.rows)})"
    if measures is None:
        return [label, first.method, first.state, "", "", "", ""]
    cosines = [measures.cosine(a, b) for a, b in combinations(range(len(first.sides)), 2)]
    numbers = [cosine for cosine in cosines if cosine is not None]
    moved = ", ".join(f"{side} {percent(value)}" for side, value in zip(first.sides, measures.distances, strict=True))
    trimmed = "" if measures.trimmed is None else ", ".join(map(percent, measures.trimmed))
    cosine = f"{sum(numbers) / len(numbers):.2f}" if numbers else ""
    return [label, first.method, moved, trimmed, percent(measures.agreement), cosine, percent(measures.energy)]
