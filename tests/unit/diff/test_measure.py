import math

import numpy as np
import pytest

from git_theta_ext.diff.measure import measure
from git_theta_ext.model.dtypes import dtype
from git_theta_ext.model.floats import from_float


def distance(old, new, kind="F32"):
    one, two = (from_float(np.asarray(values), dtype(kind)) for values in (old, new))
    return measure([one], [two], dtype(kind))


@pytest.mark.parametrize("kind", ["F16", "BF16", "F32", "F64", "F8_E4M3", "F8_E5M2", "F8_E4M3FNUZ", "F8_E5M2FNUZ"])
def test_the_relative_change_is_the_norm_of_the_difference_over_the_norm_of_the_old(kind):
    found = distance([3.0, 4, 0, 0], [3.0, 4, 0, 1], kind)
    assert found.relative == pytest.approx(0.2)
    assert found.largest == 1
    assert (found.elements, found.changed, found.share) == (4, 1, 0.25)


@pytest.mark.parametrize("kind", ["C64", "C128"])
def test_complex_values_count_as_one_element_each(kind):
    width = np.complex64 if kind == "C64" else np.complex128
    old, new = np.array([3 + 4j, 0], width), np.array([3 + 5j, 0], width)
    found = measure([old.tobytes()], [new.tobytes()], dtype(kind))
    assert found.relative == pytest.approx(0.2)
    assert (found.elements, found.changed) == (2, 1)


@pytest.mark.parametrize(
    ("kind", "data", "changed_at", "elements"),
    [("I64", 32, 9, 4), ("BOOL", 4, 1, 4), ("F4", 4, 1, 8), ("F6_E2M3", 6, 1, 8), ("opaque272:Q8_0", 68, 40, 2)],
)
def test_types_without_arithmetic_have_only_counts(kind, data, changed_at, elements):
    old = bytes(data)
    new = bytearray(old)
    new[changed_at] = 1
    found = measure([old], [new], dtype(kind))
    assert (found.elements, found.changed) == (elements, 1)
    assert found.relative is None
    assert found.largest is None


def test_pieces_do_not_change_the_result():
    rng = np.random.default_rng(4)
    old, new = (rng.normal(size=1000).astype(np.float32) for _ in range(2))
    whole = measure([old.tobytes()], [new.tobytes()], dtype("F32"))
    parts = measure(np.split(old, 10), np.split(new, 10), dtype("F32"))
    assert parts.relative == pytest.approx(whole.relative)
    assert (parts.changed, parts.largest, parts.elements) == (whole.changed, whole.largest, whole.elements)


def test_a_change_of_sign_of_zero_counts_but_has_no_distance():
    found = distance([0.0, 1], [-0.0, 1])
    assert (found.changed, found.relative) == (1, 0)


def test_a_change_from_all_zeros_is_infinite():
    assert distance([0.0], [1.0]).relative == math.inf


def test_nan_and_infinite_values_are_counted_and_not_hidden():
    found = distance([1.0, 2, np.inf], [1.0, np.nan, np.inf])
    assert (found.nonfinite_old, found.nonfinite_new) == (1, 2)
    assert math.isnan(found.largest)
    assert not math.isfinite(found.relative)


def test_values_whose_squares_overflow_or_vanish_are_measured():
    for scale in (1e300, 1e-300):
        found = distance(np.array([3.0, 4]) * scale, np.array([3.0, 5]) * scale, "F64")
        assert found.relative == pytest.approx(0.2)


def test_empty_tensors_have_no_change():
    found = measure([], [], dtype("F32"))
    assert (found.elements, found.share, found.relative) == (0, 0, 0)


def test_pieces_of_different_sizes_are_refused():
    with pytest.raises(ValueError, match="different sizes"):
        measure([bytes(4)], [bytes(8)], dtype("F32"))
