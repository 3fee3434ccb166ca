"""A diff as a web page: where a model changed, how much, and every change."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from git_theta_ext.comparison.changes import Kind
from git_theta_ext.comparison.numbers import numbers
from git_theta_ext.comparison.text import summary
from git_theta_ext.comparison.words import plural
from git_theta_ext.webpage.blocks import Histogram, Page, Section, Table
from git_theta_ext.webpage.layers import heatmap_of_layers

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from git_theta_ext.comparison.changes import ModelChange, ParameterChange
    from git_theta_ext.comparison.distance import Distance
    from git_theta_ext.webpage.blocks import Block
    from git_theta_ext.webpage.layers import LayerChange

_ABOUT = (
    "Rel. change: norm of the difference, relative to the norm of the older version.",
    "Largest: the largest absolute difference. Elements: share that differs. Flips: elements whose sign changed.",
    "Rank: effective rank of the difference, the number of singular values that hold 99.9 % of it.",
)
_COLUMNS = (
    "parameter", "change", "type and shape", "rel. change", "cosine", "largest", "elements", "flips", "rank",
    "NaN or inf",
)  # fmt: skip
_SHARE = _COLUMNS.index("elements")
_MOVERS = ("parameters", "change", "type and shape", "how much")
_MOST_MOVERS = 12
_MOST_ROWS = 2000
_DECADES = range(-7, 1)


def diff_page(title: str, changes: Sequence[ModelChange]) -> Page:
    """Return a diff as a page.

    Args:
        title: Its title.
        changes: Of each model.
    """
    return Page(title, _ABOUT, [_section(change) for change in changes])


def _section(change: ModelChange) -> Section:
    facts = [summary(change.diff), *(f"{kind}." for kind in _layout(change)), *change.notes]
    return Section(change.headline, facts, list(_blocks(change)))


def _layout(change: ModelChange) -> Iterator[str]:
    diff = change.diff
    if diff.moved:
        yield f"{plural(len(diff.moved), 'parameter')} moved between files"
    if diff.conflicted:
        yield plural(len(diff.conflicts) + (diff.layout_conflict is not None), "unresolved conflict")


def _blocks(change: ModelChange) -> Iterator[Block]:
    ordered = sorted(change.changes, key=_order)
    chart = heatmap_of_layers("Relative change by layer", _cells(change))
    if chart is not None:
        yield chart
    if bins := _bins([each.distance for each in ordered if each.distance is not None]):
        yield Histogram("Parameters by relative change", bins)
    movers = _movers(change)
    if any(row[-1] for row in movers.rows):
        yield movers
    if ordered:
        yield _table(ordered)


def _order(change: ParameterChange) -> tuple[bool, float, str]:
    """Put what changed in structure first, and then what moved most."""
    relative = None if change.distance is None else change.distance.relative
    moved = -1.0 if relative is None else math.inf if math.isnan(relative) else relative
    return not change.structural, -moved, change.name


def _cells(change: ModelChange) -> Iterator[LayerChange]:
    changed = {each.name: each for each in change.changes}
    members = {name for each in change.changes for name in each.names}
    for name in sorted({*changed, *(name for name in change.diff.unchanged if name not in members)}, key=_natural):
        each = changed.get(name)
        if each is None or each.kind is Kind.RENAMED:
            yield name, 0.0, "same"
        elif each.distance is None or each.distance.relative is None:
            yield name, None, each.kind.value
        else:
            yield name, each.distance.relative, f"{each.distance.relative:.1e}"


def _natural(name: str) -> tuple[tuple[int, str], ...]:
    return tuple((int(part), "") if part.isdecimal() and part.isascii() else (-1, part) for part in name.split("."))


def _bins(distances: Sequence[Distance]) -> dict[str, int]:
    values = [distance.relative for distance in distances if distance.relative]
    found = [min(max(math.floor(math.log10(value)), _DECADES[0]), _DECADES[-1]) for value in values if value < math.inf]
    bins = {f"1e{decade}": found.count(decade) for decade in _DECADES}
    alarms = len(values) - len(found)
    return (bins | ({"NaN, inf": alarms} if alarms else {})) if values else {}


def _movers(change: ModelChange) -> Table:
    groups = change.groups()
    rows = []
    for group in groups[:_MOST_MOVERS]:
        label = group.label if len(group.changes) == 1 else f"{group.label} ({len(group.changes)})"
        rows.append((label, group.kind.value, group.spec, numbers(group)))
    left = len(groups) - len(rows)
    return Table("What changed most", _MOVERS, rows, {}, f"{left} more groups changed less." if left else "")


def _table(changes: Sequence[ParameterChange]) -> Table:
    shown = changes[:_MOST_ROWS]
    shares = {(n, _SHARE): each.distance.share for n, each in enumerate(shown) if each.distance is not None}
    left = len(changes) - len(shown)
    left_out = f"{left} more changed less; git theta diff --json has all." if left else ""
    return Table("All changes", _COLUMNS, [_row(each) for each in shown], shares, left_out)


def _row(change: ParameterChange) -> Sequence[str]:
    was = f"renamed from {change.old_name}" if change.old_name else change.kind.value
    distance = change.distance
    if change.common_rows is not None:
        was = f"{was}, numbers of the first {plural(change.common_rows, 'row')}"
    cells = [change.name, was, change.spec]
    if distance is None:
        return [*cells, *[""] * (len(_COLUMNS) - len(cells))]
    return [
        *cells,
        _number(distance.relative, ".2e"),
        _number(distance.cosine, ".5f"),
        _number(distance.largest, ".2e"),
        f"{100 * distance.share:.3g} %",
        str(distance.flips),
        "" if distance.rank is None else str(distance.rank),
        str(distance.nonfinite_new or ""),
    ]


def _number(value: float | None, how: str) -> str:
    return "" if value is None else f"{value:{how}}"
