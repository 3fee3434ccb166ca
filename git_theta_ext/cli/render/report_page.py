"""A merge report as a web page."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from git_theta_ext.cli.render.report import COLUMNS, Group, cells, headline
from git_theta_ext.comparison.words import percent
from git_theta_ext.webpage.blocks import Histogram, Page, Section, Table
from git_theta_ext.webpage.layers import heatmap_of_layers

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from git_theta_ext.merging.reporting.report import Row
    from git_theta_ext.webpage.blocks import Block, Heatmap

_ABOUT = (
    "Change: norm of a side's change, relative to the norm of the common ancestor.",
    "Trimmed: share of the side's changed elements that the method drops.",
    "Agree: share of the elements changed by several sides that they changed in the same direction.",
    "Cosine: cosine of the changes, averaged over pairs of sides.",
    "Energy: squared norm of the merge's change, relative to the mean of the sides'.",
)
_AGREE = COLUMNS.index("agree")
_TENTHS = 10
_MOST_ROWS = 2000


def report_page(reports: Sequence[tuple[Mapping[str, Any], Sequence[Group]]]) -> Page:
    """Return reports as a page.

    Args:
        reports: Of each model what ``to_json`` takes.
    """
    return Page("Merge report", _ABOUT, [_section(about, groups) for about, groups in reports])


def _section(about: Mapping[str, Any], groups: Sequence[Group]) -> Section:
    rows = sorted((row for group in groups for row in group.rows), key=lambda row: row.name)
    blocks: list[Block] = [*_maps(rows), *_agreement(rows), _table(rows)] if rows else []
    return Section(headline(about, groups), [], blocks)


def _maps(rows: Sequence[Row]) -> Iterator[Heatmap]:
    for side in dict.fromkeys(side for row in rows for side in row.sides):
        changes = []
        for row in rows:
            if row.measures is not None and side in row.sides:
                value = row.measures.distances[row.sides.index(side)]
                changes.append((row.name, value, percent(value)))
        if (chart := heatmap_of_layers(f"Change by {side}", changes)) is not None:
            yield chart


def _agreement(rows: Sequence[Row]) -> Iterator[Histogram]:
    shares = [row.measures.agreement for row in rows if row.measures is not None and row.measures.agreement is not None]
    if shares:
        bins = {f"{10 * number} %": 0 for number in range(_TENTHS)}
        for share in shares:
            bins[f"{10 * min(int(share * _TENTHS), _TENTHS - 1)} %"] += 1
        yield Histogram("Parameters by how much the sides agree, in steps of 10 %", bins)


def _table(rows: Sequence[Row]) -> Table:
    shown = rows[:_MOST_ROWS]
    groups = [Group(row.name, (row,), row.measures) for row in shown]
    shares = {
        (number, _AGREE): row.measures.agreement
        for number, row in enumerate(shown)
        if row.measures is not None and row.measures.agreement is not None
    }
    left_out = (
        f"{len(rows) - len(shown)} more are in git theta merge --report --json." if len(rows) > len(shown) else ""
    )
    return Table("Parameters", ["parameter", *COLUMNS[1:]], [cells(group) for group in groups], shares, left_out)
