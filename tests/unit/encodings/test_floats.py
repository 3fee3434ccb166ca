from fractions import Fraction

import numpy as np
import pytest

from git_theta_ext.model.dtypes import dtype
from git_theta_ext.model.floats import round_once, to_float, to_float64
from git_theta_plugins.encodings import _floats

NARROW = ["BF16", "F16", "F8_E4M3", "F8_E5M2", "F8_E4M3FNUZ", "F8_E5M2FNUZ"]


def all_values(kind):
    codes = np.arange(1 << kind.bits, dtype=f"<u{kind.bits // 8}").tobytes()
    values = to_float64(codes, kind)
    return np.unique(values[np.isfinite(values)])


@pytest.mark.parametrize("name", NARROW)
def test_a_float64_is_rounded_a_single_time(name):
    kind = dtype(name)
    values = all_values(kind)
    below, above = values[:-1], values[1:]
    middle = (below + above) / 2
    for tried, wanted in (
        (np.nextafter(middle, -np.inf), below),
        (np.nextafter(middle, np.inf), above),
        (values, values),
    ):
        assert np.array_equal(to_float(round_once(tried, kind), kind), wanted)


@pytest.mark.parametrize("name", NARROW)
def test_ties_go_to_the_even_neighbour(name):
    kind = dtype(name)
    values = all_values(kind)
    middle = (values[:-1] + values[1:]) / 2
    codes = np.frombuffer(round_once(middle, kind), f"<u{kind.bits // 8}")
    assert not (codes & 1).any()


@pytest.mark.parametrize("name", ["BF16", "F16", "F32", "F8_E4M3"])
def test_what_lies_within_an_interval_rounds_to_its_value_and_what_lies_outside_does_not(name):
    kind = dtype(name)
    data = round_once(np.random.default_rng(0).standard_normal(2000), kind)
    values = to_float(data, kind)
    low, high = _floats.rounding_interval(data, kind)
    for end, inside in ((low, np.inf), (high, -np.inf)):
        assert np.array_equal(to_float(round_once(np.nextafter(end, inside), kind), kind), values)
        assert not (to_float(round_once(np.nextafter(end, -inside), kind), kind) == values).any()


def test_the_interval_of_zero_and_of_a_power_of_two_are_exact():
    low, high = _floats.rounding_interval(round_once(np.array([0.0, -1.0, np.inf]), dtype("BF16")), dtype("BF16"))
    assert [Fraction(x) for x in low[:2]] == [-Fraction(1, 2**134), -1 - Fraction(1, 2**8)]
    assert [Fraction(x) for x in high[:2]] == [Fraction(1, 2**134), -1 + Fraction(1, 2**9)]
    assert np.isnan([low[2], high[2]]).all()
