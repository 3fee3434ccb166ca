"""Moments and thresholds of values that are read chunk by chunk."""

import numpy as np
import pytest

from git_theta_ext.util.streaming import HALF_BITS, KthLargest, Moments


def test_moments_of_chunks_are_those_of_all_values():
    values = np.random.default_rng(0).normal(1e6, 1, 1000)
    moments = Moments()
    for chunk in np.split(values, [1, 1, 400]):
        moments.add(chunk)
    assert moments.count == values.size
    assert moments.mean == pytest.approx(values.mean(), rel=1e-14)
    assert moments.deviation == pytest.approx(values.std(), rel=1e-9)
    assert Moments().deviation == 0


@pytest.mark.parametrize("rank", [1, 2, 3, 7, 100, 999, 1000, 2000])
def test_the_kth_largest_is_that_of_sorted_values(rank):
    values = np.abs(np.random.default_rng(1).normal(size=1000).astype(np.float32).round(2))
    bits = values.view(np.uint32).astype(np.int64)
    search = KthLargest(rank)
    search.narrow(np.bincount(bits >> HALF_BITS, minlength=1 << HALF_BITS))
    inside = bits[bits >> HALF_BITS == search.bin] & 0xFFFF
    threshold, equal = search.find(np.bincount(inside, minlength=1 << HALF_BITS))
    ordered = np.sort(bits)[::-1][:rank]
    assert (threshold, equal) == (ordered[-1], int((ordered == ordered[-1]).sum()))
