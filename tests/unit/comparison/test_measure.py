import math

import numpy as np
import pytest

from git_theta_ext.comparison.measure import common_rows, comparable, measurable, measure
from git_theta_ext.model.dtypes import dtype
from git_theta_ext.model.floats import from_float
from git_theta_ext.model.tensor import TensorSpec


def distance(old, new, kind="F32"):
    one, two = (from_float(np.asarray(values), dtype(kind)) for values in (old, new))
    return measure([one], [two], TensorSpec.of(kind, (len(old),)))


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
    found = measure([old.tobytes()], [new.tobytes()], TensorSpec.of(kind, (2,)))
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
    found = measure([old], [new], TensorSpec.of(kind, (elements,)))
    assert (found.elements, found.changed) == (elements, 1)
    assert found.relative is None
    assert found.largest is None


def test_pieces_do_not_change_the_result():
    rng = np.random.default_rng(4)
    old, new = (rng.normal(size=1000).astype(np.float32) for _ in range(2))
    whole = measure([old.tobytes()], [new.tobytes()], TensorSpec.of("F32", (1000,)))
    parts = measure(np.split(old, 10), np.split(new, 10), TensorSpec.of("F32", (1000,)))
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
    found = measure([], [], TensorSpec.of("F32", (0, 4)))
    assert (found.elements, found.share, found.relative) == (0, 0, 0)


def test_pieces_of_different_sizes_are_refused():
    with pytest.raises(ValueError, match="different sizes"):
        measure([bytes(4)], [bytes(8)], TensorSpec.of("F32", (2,)))


def test_norms_flips_and_kinds_of_nonfinite_values_are_counted():
    found = distance([3.0, -4, 0, 1], [-3.0, -4, -1, np.nan])
    assert (found.flips, found.nan_old, found.nan_new, found.infinite_new) == (1, 0, 1, 0)
    assert found.norm_old == pytest.approx(26**0.5)
    assert distance([3.0, -4], [3.0, 4]).cosine == pytest.approx(-7 / 25)
    assert distance([1.0], [-np.inf]).infinite_new == 1


def test_a_cast_is_measured_by_the_values():
    old, new = np.array([1.0, 2, 3], np.float32), np.array([1.0, 2, 3.5])
    found = measure(
        [old.tobytes()], [from_float(new, dtype("BF16"))], TensorSpec.of("BF16", (3,)), TensorSpec.of("F32", (3,))
    )
    assert (found.changed, found.largest, found.elements) == (1, 0.5, 3)


@pytest.mark.parametrize(
    ("old", "new", "same"),
    [
        (("F32", (4,)), ("BF16", (4,)), True),
        (("F32", (4,)), ("F32", (2, 2)), False),
        (("I32", (4,)), ("I32", (4,)), True),
        (("I32", (4,)), ("F32", (4,)), False),
        (("C64", (4,)), ("F32", (4,)), False),
    ],
)
def test_what_can_be_measured(old, new, same):
    assert comparable(TensorSpec.of(*old), TensorSpec.of(*new)) is same


@pytest.mark.parametrize(
    ("old", "new", "rows"),
    [
        (("F32", (4, 2)), ("F32", (6, 2)), 4),
        (("F32", (6, 2)), ("BF16", (4, 2)), 4),
        (("I64", (6,)), ("I64", (1,)), 1),
        (("F32", (4, 2)), ("F32", (4, 2)), None),
        (("F32", (4, 2)), ("F32", (4, 3)), None),
        (("F32", (4, 2)), ("F32", (8,)), None),
        (("F32", (0, 2)), ("F32", (4, 2)), None),
        (("F32", ()), ("F32", (1,)), None),
        (("F32", (4, 2)), ("I32", (6, 2)), None),
        (("F4", (4, 2)), ("F4", (6, 2)), None),
    ],
)
def test_rows_that_both_have(old, new, rows):
    specs = TensorSpec.of(*old), TensorSpec.of(*new)
    assert common_rows(*specs) == rows
    assert measurable(*specs) == (rows is not None or comparable(*specs))


@pytest.mark.parametrize("scale", [1e-30, 1e-22, 1e-8, 1e8, 1e25])
def test_float32_beyond_the_squares_of_float32(scale):
    found = distance(np.array([3.0, 4]) * scale, np.array([3.0, 5]) * scale)
    assert found.relative == pytest.approx(0.2, rel=1e-5)
    assert found.norm_old == pytest.approx(5 * scale, rel=1e-5)
