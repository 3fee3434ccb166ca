"""A merge report as text, JSON and HTML: parameters whose names differ only in numbers are one group.

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

import html
import math
from collections import defaultdict
from dataclasses import dataclass
from functools import reduce
from itertools import combinations
from operator import add
from typing import TYPE_CHECKING, Any

from git_theta_ext.diff.group import Item, by_unit, fold
from git_theta_ext.diff.words import aligned, percent, plural
from git_theta_ext.util.text import printable

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from git_theta_ext.merging.reporting.measures import Measures
    from git_theta_ext.merging.reporting.report import Row

SCHEMA = "git-theta merge report 1"
_MOST_GROUPS = 60
_COLUMNS = ("group", "method", "change", "trimmed", "agree", "cosine", "energy")


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
        yield from aligned([_COLUMNS, *(_cells(group) for group in groups)])


def headline(about: Mapping[str, Any], groups: Sequence[Group]) -> str:
    """Summarise in a line what was merged."""
    parts = [f"{count} taken from {side}" for side, count in sorted(about["taken"].items())]
    methods: dict[str, int] = defaultdict(int)
    for group in groups:
        methods[group.rows[0].method] += len(group.rows)
    parts += [f"{plural(count, 'parameter')} by {method}" for method, count in sorted(methods.items())]
    return f"{about['path']} in {about['commit'][:12]}: {', '.join(parts)}"


def _cells(group: Group) -> list[str]:
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


def to_html(reports: Sequence[tuple[Mapping[str, Any], Sequence[Group]]]) -> str:
    """Write reports as a self-contained page."""
    body = []
    for about, groups in reports:
        body.append(f"<h2>{_shown(headline(about, groups))}</h2>")
        body.append("<table><thead><tr>" + "".join(f"<th>{name}</th>" for name in _COLUMNS) + "</tr></thead><tbody>")
        for group in groups:
            cells = [f"<td>{_shown(cell)}</td>" for cell in _cells(group)]
            share = group.measures.agreement if group.measures is not None else None
            if share is not None:
                cells[4] = f'<td class="bar" style="--share:{100 * share:.1f}%">{_shown(percent(share))}</td>'
            body.append(f"<tr>{''.join(cells)}</tr>")
        body.append("</tbody></table>")
    return _PAGE.replace("BODY", "\n".join(body))


def _shown(text: str) -> str:
    """Escape a text for the page, as names may contain markup."""
    return html.escape(printable(text))


_PAGE = """<!doctype html>
<html lang="en">
<meta charset="utf-8">
<meta name="viewport" content="width=device-width">
<title>Merge report</title>
<style>
:root { color-scheme: light dark; font: 15px/1.5 system-ui, sans-serif; }
body { max-width: 80rem; margin: 2rem auto; padding: 0 1rem; }
h2 { font-size: 1.1rem; overflow-wrap: anywhere; }
table { border-collapse: collapse; width: 100%; font-variant-numeric: tabular-nums; }
th, td { padding: .3rem .6rem; text-align: left; border-bottom: 1px solid #8884; overflow-wrap: anywhere; }
td.bar { background: linear-gradient(to right, #4a90d966 var(--share), transparent var(--share)); }
</style>
<h1>Merge report</h1>
<p>Change: norm of a side's change, relative to the norm of the common ancestor. Trimmed: share of the side's changed
elements that the method drops. Agree: share of the elements changed by several sides that they changed in the same
direction. Cosine: cosine of the changes, averaged over pairs of sides. Energy: squared norm of the merge's change,
relative to the mean of the sides'.</p>
BODY
</html>
"""
