import struct

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from git_theta_ext.errors import CorruptError
from git_theta_ext.model.packed_signs import pack_signs, unpack_signs


def row(count, density):
    rng = np.random.default_rng(1)
    return np.where(rng.random(count) < density, rng.choice([-1, 1], count), 0).astype(np.int8)


@given(st.lists(st.integers(-1, 1), max_size=300), st.integers(0, 400))
def test_any_row_comes_back(signs, zeros):
    signs = np.array([*signs, *[0] * zeros, *signs[:3]], np.int8)
    assert np.array_equal(unpack_signs(pack_signs(signs), signs.size), signs)


@pytest.mark.parametrize("density", [0.005, 0.01, 0.03, 0.1, 0.12, 0.15, 0.3, 0.5, 0.67])
def test_a_row_takes_little_more_than_its_entropy(density):
    signs = row(1 << 17, density)
    share = np.count_nonzero(signs) / signs.size
    ideal = (-(1 - share) * np.log2(1 - share) - share * np.log2(share / 2)) * signs.size / 8
    packed = pack_signs(signs)
    assert len(packed) < 1.05 * ideal + 100
    assert np.array_equal(unpack_signs(packed, signs.size), signs)


def test_a_gap_longer_than_a_byte_tells_is_kept():
    signs = np.zeros(3_000_000, np.int8)
    signs[[0, 1, 2, 3, 2_000_000, 2_999_999]] = [1, -1, 1, 1, -1, 1]
    assert np.array_equal(unpack_signs(pack_signs(signs), signs.size), signs)


@pytest.mark.parametrize("density", [0.02, 0.4])
def test_damaged_data_is_refused_or_gives_a_row_of_the_same_length(density):
    signs = row(3000, density)
    packed = pack_signs(signs)
    for at in range(len(packed)):
        for bad in (packed[:at], packed[:at] + bytes([packed[at] ^ 255]) + packed[at + 1 :]):
            try:
                found = unpack_signs(bad, signs.size)
            except CorruptError:
                continue
            assert found.size == signs.size
            assert set(found.tolist()) <= {-1, 0, 1}


@pytest.mark.parametrize("density", [0.02, 0.4])
def test_a_row_of_another_length_is_refused(density):
    signs = row(3000, density)
    signs[-1] = 1
    with pytest.raises(CorruptError):
        unpack_signs(pack_signs(signs), 2990)


def test_sizes_that_are_too_large_are_refused_before_memory_is_taken():
    for numbers in ((0, 1 << 60, 1 << 60, 0), (0, 5, 1 << 60, 0), (200, 1, 1, 0), (0, 1, 1, 1 << 62)):
        with pytest.raises(CorruptError):
            unpack_signs(b"\1" + struct.pack("<BQQQ", *numbers), 100)
