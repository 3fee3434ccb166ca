"""What a report consists of."""

from __future__ import annotations

from typing import TYPE_CHECKING

from git_theta_ext.records import dataclass

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence


@dataclass(frozen=True, slots=True)
class Cell:
    """A cell of a heat map.

    Attributes:
        value: Share that gives the colour: 0 is no change, 1 a change as large as the value itself. NaN and infinity
            are shown as alarms. None if there is no number.
        text: What the cell says, such as the name of its parameter and the change.
        pattern: Names of its parameters, as the filter takes them.
    """

    value: float | None
    text: str
    pattern: str


@dataclass(frozen=True)
class Heatmap:
    """Changes in rows and columns.

    Attributes:
        title: Its heading.
        corner: What rows and columns are, such as ``module by layer``.
        scale: What the colours mean, such as ``relative change``.
        columns: Label of each column.
        rows: Label to the cells of each row, one for each column; None if there is nothing.
        shares: Whether values are shares of all, whose colours have equal steps, and not the sizes of changes.
    """

    title: str
    corner: str
    scale: str
    columns: Sequence[str]
    rows: Mapping[str, Sequence[Cell | None]]
    shares: bool = False


@dataclass(frozen=True)
class Histogram:
    """How many there are of each size.

    Attributes:
        title: Its heading.
        bins: Label to number, in order.
    """

    title: str
    bins: Mapping[str, int]


@dataclass(frozen=True)
class Table:
    """Rows that can be sorted. Columns without any text are not shown.

    Attributes:
        title: Its heading.
        columns: Label of each column.
        rows: The cells of each row.
        shares: Share between 0 and 1 of some cells, which is drawn as a bar, by row and column.
        left_out: What says which rows were left out; empty if none were.
        named: Whether rows are parameters, which the filter hides if the names in their first column do not match.
    """

    title: str
    columns: Sequence[str]
    rows: Sequence[Sequence[str]]
    shares: Mapping[tuple[int, int], float]
    left_out: str = ""
    named: bool = True


@dataclass(frozen=True, slots=True)
class Point:
    """A point of a plot.

    Attributes:
        x: Its place on the horizontal axis.
        y: Its place on the vertical axis.
        text: What the point says.
        marked: Whether it stands out.
    """

    x: float
    y: float
    text: str
    marked: bool = False


@dataclass(frozen=True)
class Scatter:
    """Points in a plane.

    Attributes:
        title: Its heading.
        x: What the horizontal axis is.
        y: What the vertical axis is.
        points: At least one, with finite numbers.
        line: A value of the vertical axis at which a line is drawn; None for no line.
    """

    title: str
    x: str
    y: str
    points: Sequence[Point]
    line: float | None = None


Block = Heatmap | Histogram | Scatter | Table


@dataclass(frozen=True)
class Section:
    """The part of a page about one model.

    Attributes:
        title: Its heading.
        facts: Sentences for its beginning.
        blocks: In the order in which they are shown.
    """

    title: str
    facts: Sequence[str]
    blocks: Sequence[Block]


@dataclass(frozen=True)
class Page:
    """A report.

    Attributes:
        title: Its title.
        about: Paragraphs that explain the numbers.
        sections: One for each model.
    """

    title: str
    about: Sequence[str]
    sections: Sequence[Section]
