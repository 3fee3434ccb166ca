"""Points in a plane."""

from __future__ import annotations

import re

from git_theta_ext.webpage.blocks import Page, Point, Scatter, Section
from git_theta_ext.webpage.render import render


def drawn(chart: Scatter) -> str:
    return render(Page("Search", [], [Section("m", [], [chart])]))


def circles(page: str) -> list[tuple[float, float]]:
    return [(float(x), float(y)) for x, y in re.findall(r'<circle cx="([^"]+)" cy="([^"]+)"', page)]


def test_larger_values_are_further_right_and_higher() -> None:
    page = drawn(Scatter("Score", "lambda", "score", [Point(0.2, 0.5, "a"), Point(1, 0.9, "b")]))
    (x, y), (right, up) = circles(page)
    assert right > x
    assert up < y


def test_the_ends_of_both_axes_are_labelled() -> None:
    page = drawn(Scatter("Score", "lambda", "score", [Point(0.2, 0.5, "a"), Point(1, 0.9, "b")], line=0.25))
    assert re.findall(r"<text[^>]*>([^<]*)</text>", page) == ["lambda", "0.2", "1", "0.25", "0.9"]
    assert page.count("<line") == 1


def test_the_marked_point_is_drawn_last_and_says_what_it_is() -> None:
    page = drawn(Scatter("Score", "lambda", "score", [Point(1, 2, "<best>", marked=True), Point(1, 2, "other")]))
    assert re.findall("<title>([^<]*)</title></circle>", page) == ["other", "&lt;best&gt;"]
    assert re.findall("<circle[^>]*>", page)[1].count('class="best"') == 1
