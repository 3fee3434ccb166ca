"""Whether a parameter moved by more than a tolerance."""

from __future__ import annotations

import math

import numpy as np
import pytest

from git_theta_ext.errors import UsageError
from git_theta_ext.model.tensor import TensorSpec
from git_theta_ext.update.tolerance import Tolerance, within


def near(old, new, absolute=0.0, relative=0.0, kind="F32", array="<f4"):
    before, after = np.array(old, array), np.array(new, array)
    spec = TensorSpec.of(kind, before.shape)
    chunks = (memoryview(before[start : start + 2]).cast("B") for start in range(0, before.size, 2))
    return within(spec, chunks, memoryview(after).cast("B"), Tolerance(absolute, relative))


def test_bound_is_absolute_plus_relative_to_the_previous_value():
    assert near([1, 8], [1.25, 8], absolute=0.25)
    assert not near([1, 8], [1.25, 8], absolute=0.2499)
    assert near([8, 1], [10, 1], relative=0.25)
    assert not near([10, 1], [8, 1], relative=0.1999)
    assert near([4], [6], absolute=1, relative=0.25)
    assert not near([4], [6.01], absolute=1, relative=0.25)


def test_every_element_counts_in_every_chunk():
    assert not near([0, 0, 0, 0, 0], [0, 0, 0, 0, 1], absolute=0.5)
    assert near([0, 0, 0, 0, 0], [0, 0, 0, 0, 1], absolute=1)


@pytest.mark.parametrize(
    ("old", "new", "same"),
    [
        (math.nan, math.nan, True),
        (math.nan, 0, False),
        (0, math.nan, False),
        (math.inf, math.inf, True),
        (math.inf, -math.inf, False),
        (math.inf, 1, False),
        (1, math.inf, False),
        (0.0, -0.0, True),
    ],
)
def test_numbers_that_are_not_finite_are_near_themselves_only(old, new, same):
    assert near([old], [new], absolute=1e30, relative=1e30) is same


def test_differences_below_float32_are_seen_in_doubles():
    assert not near([1.0], [1.0 + 2**-40], absolute=2**-41, kind="F64", array="<f8")
    assert near([1.0], [1.0 + 2**-40], absolute=2**-40, kind="F64", array="<f8")


@pytest.mark.parametrize(("kind", "array"), [("I64", "<i8"), ("U8", "u1"), ("BOOL", "u1"), ("F8_E8M0", "u1")])
def test_types_without_arithmetic_are_never_near(kind, array):
    assert not near([1], [1], absolute=100, kind=kind, array=array)


@pytest.mark.parametrize("value", [-1.0, math.nan, math.inf])
def test_tolerance_is_a_finite_number_not_below_zero(value):
    with pytest.raises(UsageError, match="--atol"):
        Tolerance(value)
    with pytest.raises(UsageError, match="--rtol"):
        Tolerance(0, value)
