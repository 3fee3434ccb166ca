"""Tables fit 80 columns, and show all of their cells."""

from __future__ import annotations

import re

from hypothesis import given
from hypothesis import strategies as st

from git_theta_ext.comparison.fitting import WIDTH, fitted

CELL = st.text("ab", max_size=30)


def test_a_table_that_fits_has_a_line_for_each_row():
    assert fitted([["a", "1"], ["long", "2"]], ["name", "value"]) == ["  name  value", "  a     1", "  long  2"]


def test_columns_without_content_are_left_out():
    assert fitted([["a", "", "1"]], ["name", "none", "value"]) == ["  name  value", "  a     1"]


def test_if_it_is_too_wide_the_first_cell_has_a_line_of_its_own():
    name = "x" * 60
    rows = [[name, "1", "20 %"], ["short", "100", "is missing on one of the sides"]]
    assert fitted(rows, ["name", "count", "state"], indent=0) == [
        "  count  state",
        name,
        "  1      20 %",
        "short",
        "  100    is missing on one of the sides",
    ]


def test_cells_are_divided_at_commas_only_if_that_is_not_enough():
    sides = ", ".join(f"theirs{n} 10.1 %" for n in range(6))
    assert fitted([["group", sides, "0.5"]], ["name", "change", "cosine"]) == [
        "    change                           cosine",
        "  group",
        "    theirs0 10.1 %, theirs1 10.1 %,  0.5",
        "    theirs2 10.1 %, theirs3 10.1 %,",
        "    theirs4 10.1 %, theirs5 10.1 %",
    ]


def test_other_rows_make_no_room_for_the_last_cell_of_a_shorter_one():
    rows = [["a", "1", "2"], ["b", "a text of its own"]]
    assert fitted(rows) == ["  a  1  2", "  b  a text of its own"]


@given(
    rows=st.integers(1, 5).flatmap(lambda n: st.lists(st.lists(CELL, min_size=n, max_size=n), min_size=1, max_size=5))
)
def test_every_cell_is_there_and_lines_fit_if_they_can(rows):
    lines = fitted(rows)
    assert sorted(re.findall("[ab]+", " ".join(lines))) == sorted(cell for row in rows for cell in row if cell)
    if len(rows[0]) <= 3:  # below the first one, two cells of 30
        assert all(len(line) <= WIDTH for line in lines)
