"""Draw points in a plane as SVG."""

from __future__ import annotations

from typing import TYPE_CHECKING

from git_theta_ext.records import dataclass
from git_theta_ext.webpage.graphics import size
from git_theta_ext.webpage.markup import Markup, element

if TYPE_CHECKING:
    from collections.abc import Sequence

    from git_theta_ext.webpage.blocks import Point, Scatter

_LEFT, _TOP, _RIGHT, _BOTTOM = 100.0, 8.0, 590.0, 188.0
_MARGIN = 18
_EDGE = 0.04
"""The share of an axis that is empty at each end, so that no point lies on the frame."""


@dataclass(frozen=True)
class _Axis:
    """Maps values from the least to the most to places from the start to the end."""

    least: float
    most: float
    start: float
    end: float

    @classmethod
    def of(cls, values: Sequence[float], start: float, end: float) -> _Axis:
        return cls(min(values), max(values), start, end)

    def at(self, value: float) -> float:
        share = (value - self.least) / (self.most - self.least) if self.most > self.least else 0.5
        return self.start + (_EDGE + (1 - 2 * _EDGE) * share) * (self.end - self.start)

    def ends(self) -> dict[str, float]:
        """Return the text and the place of both ends."""
        return {f"{value:.4g}": self.at(value) for value in (self.least, self.most)}


def scatter(chart: Scatter) -> Markup:
    """Draw points, with the ends of both axes as numbers. The marked ones are drawn last."""
    ys = [point.y for point in chart.points]
    across = _Axis.of([point.x for point in chart.points], _LEFT, _RIGHT)
    up = _Axis.of(ys if chart.line is None else [*ys, chart.line], _BOTTOM, _TOP)
    frame = element("rect", x=_LEFT, y=_TOP, width=_RIGHT - _LEFT, height=_BOTTOM - _TOP, class_="frame")
    line = [] if chart.line is None else [up.at(chart.line)]
    lines = [element("line", x1=_LEFT, x2=_RIGHT, y1=y, y2=y) for y in line]
    points = [_point(point, across, up) for point in sorted(chart.points, key=lambda point: point.marked)]
    below = {chart.x: (_LEFT + _RIGHT) / 2} | across.ends()
    labels = [element("text", text, x=x, y=_BOTTOM + _MARGIN, text_anchor="middle") for text, x in below.items()]
    labels += [element("text", text, x=_LEFT - 6, y=y + 4, text_anchor="end") for text, y in up.ends().items()]
    said = f"{chart.title}. {len(ys)} points, {chart.y} from {min(ys):.4g} to {max(ys):.4g}"
    area = size(_RIGHT + 2 * _MARGIN, _BOTTOM + 2 * _MARGIN)
    drawing = element("svg", frame, *lines, *points, *labels, **area, role="img", aria_label=said, class_="points")
    return element("div", drawing, class_="scroll")


def _point(point: Point, across: _Axis, up: _Axis) -> Markup:
    best = {"class_": "best"} if point.marked else {}
    title = element("title", point.text)
    return element("circle", title, cx=across.at(point.x), cy=up.at(point.y), r=6 if point.marked else 4, **best)
