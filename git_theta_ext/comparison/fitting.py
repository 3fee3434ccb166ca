"""Tables of text that fit a terminal of 80 columns, however long the names in them are."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

    Cells = list[list[str]]
    """Lines of each cell of a row."""

WIDTH = 80
_GAP = 2
_LONG = 30
"""Characters of a cell above which it is divided at commas, if the table does not fit otherwise."""


def fitted(rows: Sequence[Sequence[str]], heading: Sequence[str] = (), indent: int = _GAP) -> list[str]:
    """Return the lines of a table of 80 columns, if the cells allow it.

    Columns without content are left out. If the table is too wide, the first cell of each row gets a line of its own.

    Args:
        rows: At least one. A row may have fewer cells than the longest one: the other rows make no room for its last
            cell.
        heading: The titles of the columns.
        indent: Spaces before each line.
    """
    count = max(map(len, rows))
    used = [number for number in range(count) if any(row[number] for row in rows if number < len(row))]
    table = [[row[number] for number in used if number < len(row)] for row in ([heading] if heading else []) + [*rows]]
    whole = _laid_out([[[cell] for cell in row] for row in table], indent)
    if _fit(whole) or len(used) == 1:
        return [line for row in whole for line in row]
    below = _laid_out([[[cell] for cell in row[1:]] for row in table], indent + _GAP)
    if not _fit(below):
        below = _laid_out([[_divided(cell) for cell in row[1:]] for row in table], indent + _GAP)
    lines = []
    for number, (row, rest) in enumerate(zip(table, below, strict=True)):
        lines += [*([] if heading and number == 0 else [" " * indent + row[0]]), *rest]
    return lines


def _fit(rows: Sequence[Sequence[str]]) -> bool:
    return all(len(line) <= WIDTH for row in rows for line in row)


def _laid_out(table: Sequence[Cells], indent: int) -> list[list[str]]:
    """Return the lines of each row."""
    count = max(map(len, table))
    widths = [0] * count
    for row in table:
        for number, cell in enumerate(row if len(row) == count else row[:-1]):
            widths[number] = max(widths[number], *map(len, cell))
    return [[_line(row, widths, number, indent) for number in range(max(map(len, row), default=0))] for row in table]


def _line(row: Cells, widths: Sequence[int], number: int, indent: int) -> str:
    cells = (cell[number] if number < len(cell) else "" for cell in row)
    padded = (cell.ljust(width) for cell, width in zip(cells, widths, strict=False))
    return (" " * indent + (" " * _GAP).join(padded)).rstrip()


def _divided(cell: str) -> list[str]:
    first, *parts = cell.split(", ")
    lines = [first]
    for part in parts:
        if len(lines[-1]) + len(part) < _LONG:
            lines[-1] += f", {part}"
        else:
            lines[-1] += ","
            lines.append(part)
    return lines
