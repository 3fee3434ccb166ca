"""Parts of tensors, selected out of pieces as numpy selects them out of the whole."""

from math import prod

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from git_theta_ext.model.selection import Selection, copyable


@st.composite
def indexed(draw):
    """Draw the shape of a tensor and an index of it."""
    shape = draw(st.lists(st.integers(0, 5), max_size=4))
    words, lists = [], False
    for length in shape[: draw(st.integers(0, len(shape)))]:
        bounds = st.none() | st.integers(-length - 1, length + 1)
        kinds = [st.builds(slice, bounds, bounds, st.none() | st.integers(1, 3))]
        # numpy moves a list that is apart from an integer to the front; torch does not.
        if length and not lists:
            kinds.append(st.integers(-length, length - 1))
        word = draw(st.one_of(kinds))
        if length and not any(isinstance(each, int | list) for each in words) and draw(st.booleans()):
            word, lists = draw(st.lists(st.integers(-length, length - 1), max_size=3)), True
        words.append(word)
    if draw(st.booleans()):
        words.append(...)
    return shape, tuple(words)


@given(indexed(), st.integers(1, 9))
def test_a_part_is_what_numpy_selects_whatever_the_pieces_are(case, size):
    shape, index = case
    whole = np.arange(prod(shape), dtype="<u4").reshape(shape)
    part = Selection.of(shape, index)
    out = part.buffer(4)
    out.fill(1 << 31)
    for start in range(0, whole.size, size):
        piece = whole.reshape(-1)[start : start + size]
        if part.needs(start, start + len(piece)):
            part.copy(out, start, memoryview(piece.tobytes()))
    assert part.shape == whole[index].shape
    assert np.array_equal(out.reshape(part.shape), whole[index])


def test_only_pieces_with_selected_elements_are_needed():
    def needed(index):
        part = Selection.of((8, 10, 10), index)
        return [start for start in range(0, 800, 50) if part.needs(start, start + 50)]

    assert needed(3) == [300, 350]
    assert needed((3, slice(0, 5))) == [300]
    assert needed((slice(None), 7)) == list(range(50, 800, 100))
    assert needed([7, 0]) == [0, 50, 700, 750]
    assert needed(slice(0, 0)) == []


def test_new_dimensions_and_numbers_of_libraries():
    assert Selection.of((2, 3), (None, 0, ..., None)).shape == (1, 3, 1)
    assert Selection.of((4, 3), np.int64(-1)).axes[0] == range(3, 4)
    assert Selection.of((4, 3), np.array([0, -1])).axes[0] == (0, 3)
    assert Selection.of((), ()).shape == ()


@pytest.mark.parametrize(
    ("index", "error", "words"),
    [
        (4, IndexError, "index 4 is out of bounds for dimension 0 of size 4"),
        ((0, [-4]), IndexError, "index -4 is out of bounds for dimension 1 of size 3"),
        ((0, 0, 0), IndexError, "3 indices for a tensor of 2 dimensions"),
        ((..., ...), IndexError, "at most one ellipsis"),
        (slice(None, None, -1), ValueError, "step of a slice must be positive"),
        (([0], [1]), TypeError, "at most one list"),
        (True, TypeError, "not bool"),
        ([True, False, True, True], TypeError, "not list"),
        ("a", TypeError, "not str"),
        (1.5, TypeError, "not float"),
    ],
)
def test_other_indices_are_refused(index, error, words):
    with pytest.raises(error, match=words):
        Selection.of((4, 3), index)


def test_elements_that_share_bytes_are_not_copied_one_by_one():
    assert [bits for bits in (4, 6, 8, 16, 32, 64, 128, 272) if copyable(bits)] == [8, 16, 32, 64, 128]
