"""Rows of embeddings are put into the order of one vocabulary on every side."""

import numpy as np
import pytest

from git_theta_ext.merging.token_rows import aligned_rows, merged_spec, places_of
from git_theta_ext.model.floats import from_float, to_float64
from git_theta_ext.model.tensor import TensorSpec

UNION = {"a": 0, "b": 1, "<x>": 2, "<both>": 3, "<y>": 4}
BASE = {"a": 0, "b": 1}
OURS = {"a": 0, "b": 1, "<x>": 2, "<both>": 3}
THEIRS = {"a": 0, "b": 1, "<both>": 2, "<y>": 3}


def spec(rows, kind="F32", width=2):
    return TensorSpec.of(kind, (rows, width))


def aligned(tables, ids, rows=5, kind="F32"):
    specs = [None if table is None else spec(len(table), kind) for table in tables]
    values = [
        None if t is None else from_float(np.array(t, float), s.dtype) for t, s in zip(tables, specs, strict=True)
    ]
    places = [places_of(i, 0 if t is None else len(t), UNION, rows) for i, t in zip(ids, tables, strict=True)]
    return [to_float64(each, spec(1, kind).dtype).reshape(rows, 2) for each in aligned_rows(values, specs, places)]


@pytest.mark.parametrize("kind", ["F32", "BF16", "F16", "F64"])
def test_a_row_is_the_same_token_everywhere(kind):
    base = [[1, 1], [2, 2]]
    ours = [[1, 1], [3, 3], [10, 10], [20, 20]]
    theirs = [[5, 5], [2, 2], [22, 22], [30, 30]]
    new = aligned([base, ours, theirs], [BASE, OURS, THEIRS], kind=kind)
    expected = [[1, 2, 10, 21, 30], [1, 3, 10, 20, 30], [5, 2, 10, 22, 30]]
    assert [table[:, 0].tolist() for table in new] == expected


def test_a_token_that_a_side_removed_is_unchanged_there():
    ids = {"b": 0}
    base, ours, theirs = [[1, 1], [2, 2]], [[3, 3], [4, 4]], [[9, 9]]
    new = aligned([base, ours, theirs], [BASE, BASE, ids])
    assert new[2][:2, 0].tolist() == [1, 9]


def test_padding_keeps_its_place():
    base = [[1, 1], [2, 2], [7, 7], [7, 7], [7, 7], [8, 8]]
    ours, theirs = [[1, 1], [2, 2], [10, 10], [20, 20], [7, 7], [9, 9]], [[1, 1], [2, 2], [20, 20], [30, 30]]
    new = aligned([base, ours, theirs], [BASE, OURS, THEIRS], rows=6)
    assert [table[:, 0].tolist() for table in new] == [
        [1, 2, 10, 20, 30, 8],
        [1, 2, 10, 20, 30, 9],
        [1, 2, 10, 20, 30, 8],
    ]


def test_without_an_ancestor_the_sides_are_aligned():
    ours, theirs = [[1, 1], [2, 2], [10, 10], [20, 20]], [[3, 3], [4, 4], [22, 22], [30, 30]]
    new = aligned([None, ours, theirs], [{}, OURS, THEIRS])
    assert [table[:, 0].tolist() for table in new] == [[1, 2, 10, 20, 30], [3, 4, 10, 22, 30]]


@pytest.mark.parametrize(
    ("specs", "expected"),
    [
        ([spec(2), spec(4), spec(4)], spec(5)),
        ([spec(8), spec(8), spec(16)], spec(16)),
        ([None, spec(4), spec(5)], spec(5)),
        ([spec(4), spec(4), spec(4)], None),  # only values changed
        ([spec(2), spec(4), None], None),
        ([spec(2), spec(3), spec(4)], None),  # fewer rows than tokens
        ([spec(2), spec(4), spec(4, width=3)], None),
        ([spec(2), spec(4), spec(4, "BF16")], None),
        ([spec(2, "I64"), spec(4, "I64"), spec(4, "I64")], None),
    ],
)
def test_only_tensors_with_rows_of_tokens_are_aligned(specs, expected):
    assert merged_spec(specs, [2, 4, 4], 5) == expected
