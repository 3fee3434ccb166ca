"""Draw heat maps and histograms as SVG."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from git_theta_ext.webpage.colours import legend, legend_of_shares, level, level_of_share
from git_theta_ext.webpage.markup import Markup, element, escaped, joined

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from git_theta_ext.webpage.blocks import Cell, Heatmap, Histogram

_WIDEST, _NARROWEST, _HEIGHT = 20, 8, 18
_GRID_WIDTH = 840
_GAP = 2
_CHARACTER = 6.6
_LONGEST = 60
_SHORT = 3
_BAR_WIDTH, _BARS_HEIGHT, _MARGIN = 46, 110, 18


def heatmap(chart: Heatmap) -> Markup:
    """Draw a heat map whose cells can be reached with the arrow keys, and a key to its colours."""
    wide = min(max(_GRID_WIDTH // max(len(chart.columns), 1), _NARROWEST), _WIDEST)
    left = 10 + _CHARACTER * min(max(map(len, chart.rows), default=0), _LONGEST)
    longest = max(map(len, chart.columns), default=0)
    top = 22 if longest <= _SHORT else 10 + _CHARACTER * longest
    width, height = left + wide * len(chart.columns) + 4, top + _HEIGHT * len(chart.rows) + 4
    step = math.ceil((_CHARACTER * longest if longest <= _SHORT else _CHARACTER) / wide)
    labels = [
        _column_label(text, left + wide * (number + 0.5), top - 6)
        for number, text in enumerate(chart.columns)
        if number % step == 0
    ]
    head = element("g", *labels, role="row")
    colour = level_of_share if chart.shares else level
    rows = [
        _row(label, cells, (left, top + _HEIGHT * n, wide), colour)
        for n, (label, cells) in enumerate(chart.rows.items())
    ]
    drawing = element(
        "svg",
        *(head, *rows),
        **size(width, height),
        role="grid",
        aria_label=f"{chart.title}, {chart.corner}",
        class_="heat",
    )
    return joined([element("div", drawing, class_="scroll"), _key(chart)])


def _column_label(text: str, x: float, y: float) -> Markup:
    if len(text) <= _SHORT:
        return element("text", text, x=x, y=y, text_anchor="middle", role="columnheader")
    return element("text", text, transform=f"translate({x + 4:.6g} {y:.6g}) rotate(-90)", role="columnheader")


def _row(
    label: str, cells: Sequence[Cell | None], place: tuple[float, float, int], colour: Callable[[float | None], str]
) -> Markup:
    left, y, width = place
    shown = label if len(label) <= _LONGEST else f"{label[:29]}…{label[-30:]}"
    name = element("text", shown, x=left - 6, y=y + 13, text_anchor="end", role="rowheader")
    drawn = [
        _cell(cell, (left + width * n, y, width), colour(cell.value))
        for n, cell in enumerate(cells)
        if cell is not None
    ]
    return element("g", name, *drawn, role="row")


def _cell(cell: Cell, place: tuple[float, float, int], colour: str) -> Markup:
    x, y, width = place
    more = {} if cell.text.startswith(f"{cell.pattern}: ") else {"data_pattern": cell.pattern}
    return element(
        "rect",
        element("title", cell.text),
        class_=f"h{colour}",
        x=x,
        y=y,
        width=width - _GAP,
        role="gridcell",
        tabindex="-1",
        **more,
    )


def _key(chart: Heatmap) -> Markup:
    entries: list[Markup] = []
    swatches: list[Markup] = []
    for name, label in legend_of_shares() if chart.shares else legend():
        swatches.append(element("span", class_=f"swatch h{name}"))
        if label:  # it is about all swatches since the last one, and stays on their line
            entries += [element("span", *swatches, f" {label}"), escaped(" ")]
            swatches = []
    return element("p", f"{chart.scale}: ", *entries, class_="key")


def histogram(chart: Histogram) -> Markup:
    """Draw a histogram, with its numbers as text."""
    most = max(chart.bins.values(), default=0) or 1
    bars = []
    for number, (label, count) in enumerate(chart.bins.items()):
        x, high = _BAR_WIDTH * number, _BARS_HEIGHT * count / most
        top = _MARGIN + _BARS_HEIGHT - high
        place: dict[str, str | float] = {"x": x + _BAR_WIDTH / 2, "text_anchor": "middle"}
        bars.append(element("rect", x=x + 2, y=top, width=_BAR_WIDTH - 4, height=high))
        if count:
            bars.append(element("text", str(count), y=top - 4, **place))
        bars.append(element("text", label, y=2 * _MARGIN + _BARS_HEIGHT - 3, **place))
    said = ", ".join(f"{label}: {count}" for label, count in chart.bins.items() if count)
    area = size(_BAR_WIDTH * len(chart.bins), 2 * _MARGIN + _BARS_HEIGHT)
    drawing = element("svg", *bars, **area, role="img", aria_label=f"{chart.title}. {said}", class_="bars")
    return element("div", drawing, class_="scroll")


def size(width: float, height: float) -> dict[str, str]:
    """Return the attributes of a drawing of a size in pixels."""
    return {"width": f"{width:.6g}", "height": f"{height:.6g}", "viewBox": f"0 0 {width:.6g} {height:.6g}"}
