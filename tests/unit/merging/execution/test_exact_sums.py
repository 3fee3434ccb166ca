"""Changes that are applied, and casts, against rational arithmetic."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest

from git_theta_ext.merging.sums import apply_change, cast, is_cast
from git_theta_ext.model.dtypes import dtype
from git_theta_ext.model.floats import from_float, largest, round_once, to_float

FLOATS = ["F64", "F32", "F16", "BF16", "F8_E4M3", "F8_E5M2", "F8_E4M3FNUZ", "F8_E5M2FNUZ"]


def applied(values, kinds, into):
    room = bytearray(len(values[0]) * 8 // dtype(kinds[0]).bits * dtype(into).bits // 8)
    return apply_change(values, [dtype(kind) for kind in kinds], dtype(into), memoryview(room)), bytes(room)


def nearest(exact: Fraction, into: str) -> float:
    """Return the number of a type that is nearest, ties to even: the one of all candidates around float64's."""
    about = np.float64(float(exact))  # Fraction rounds correctly
    if into == "F64":
        return float(about)
    around = {about, np.nextafter(about, -np.inf), np.nextafter(about, np.inf)}
    found = {float(to_float(round_once(np.array([one]), dtype(into)), dtype(into))[0]) for one in around}
    best = min(abs(Fraction(one) - exact) for one in found)
    close = [one for one in found if abs(Fraction(one) - exact) == best]
    # On a tie float64 holds the middle exactly, and rounding it once goes to the even one.
    return close[0] if len(close) == 1 else float(to_float(round_once(np.array([about]), dtype(into)), dtype(into))[0])


def numbers(random, kind: str, spread: int) -> np.ndarray:
    values = random.standard_normal(400) * 2.0 ** random.integers(-spread, spread + 1, 400)
    values = np.clip(values, -largest(dtype(kind)) / 4, largest(dtype(kind)) / 4)
    return to_float(round_once(values, dtype(kind)), dtype(kind)).astype(np.float64)


@pytest.mark.parametrize("into", FLOATS)
@pytest.mark.parametrize("spread", [0, 3, 30])
def test_ours_plus_the_change_is_rounded_once(into, spread):
    random = np.random.default_rng(spread)
    ours, base, theirs = (
        numbers(random, into, min(spread, 3 if "8" in into else 12 if into == "F16" else 30)) for _ in range(3)
    )
    reason, room = applied([round_once(value, dtype(into)) for value in (ours, base, theirs)], [into] * 3, into)
    assert reason == ""
    exact = [
        Fraction(a) + Fraction(c) - Fraction(b)
        for a, b, c in zip(ours.tolist(), base.tolist(), theirs.tolist(), strict=True)
    ]
    assert to_float(room, dtype(into)).astype(np.float64).tolist() == [nearest(value, into) for value in exact]


def test_a_small_rest_decides_what_lies_in_the_middle():
    # 1 + 2^-24 lies between two float32; what base and theirs differ in is far below a float64 of that size.
    ours, base = np.array([1 + 2.0**-24, 1 + 2.0**-24, 2.0**60]), np.array([2.0**-80, 0, 2.0**60])
    theirs = np.array([0, 2.0**-80, 2.0**-80])
    _, room = applied([value.tobytes() for value in (ours, base, theirs)], ["F64"] * 3, "F32")
    assert np.frombuffer(room, "<f4").tolist() == [1.0, 1 + 2.0**-23, 2.0**-80]


def test_what_is_replayed_and_taken_back_is_what_it_was():
    random = np.random.default_rng(1)
    base, ours = (random.integers(-1000, 1000, 5000).astype("<f4") for _ in range(2))
    theirs = base + np.float32(8)
    _, forth = applied([ours.tobytes(), base.tobytes(), theirs.tobytes()], ["F32"] * 3, "F32")
    _, back = applied([forth, theirs.tobytes(), base.tobytes()], ["F32"] * 3, "F32")
    assert np.array_equal(np.frombuffer(forth, "<f4"), ours + 8)
    assert back == ours.tobytes()


def test_sides_of_different_types_and_complex_numbers():
    ours, base, theirs = np.float16([1, 2]), np.float32([1, 1]), np.float32([2, 3])
    assert applied([v.tobytes() for v in (ours, base, theirs)], ["F16", "F32", "F32"], "F16") == (
        "",
        np.float16([2, 4]).tobytes(),
    )
    one, other = np.complex64([1 + 2j]), np.complex64([3 - 1j])
    assert applied([one.tobytes(), one.tobytes(), other.tobytes()], ["C64"] * 3, "C64") == ("", other.tobytes())


@pytest.mark.parametrize(
    ("values", "reason"),
    [
        (([1, np.nan], [0, 0], [1, 1]), "ours has NaN or infinite values"),
        (([1, 1], [0, 0], [np.inf, 1]), "theirs has NaN or infinite values"),
        (([60000, 1], [0, 0], [60000, 1]), "the result does not fit F16"),
    ],
)
def test_what_is_no_number_is_refused(values, reason):
    assert applied([np.float16(value).tobytes() for value in values], ["F16"] * 3, "F16")[0] == reason


@pytest.mark.parametrize("into", FLOATS)
def test_a_cast_is_known_and_made_however_it_was_rounded(into):
    values = np.random.default_rng(2).standard_normal(1000)
    for data, kind in ((values.tobytes(), "F64"), (values.astype("<f4").tobytes(), "F32")):
        exact = to_float(data, dtype(kind))
        for other in (round_once(exact.astype("f8"), dtype(into)), from_float(exact, dtype(into))):
            assert is_cast(data, dtype(kind), other, dtype(into))
            moved = to_float(other, dtype(into)).copy()
            moved[7] += 1
            assert not is_cast(data, dtype(kind), from_float(moved, dtype(into)), dtype(into))
        room = bytearray(1000 * dtype(into).bits // 8)
        assert cast(data, dtype(kind), dtype(into), memoryview(room)) == ""
        assert room == round_once(exact.astype("f8"), dtype(into))


def test_a_cast_keeps_what_is_no_number_where_the_type_has_it():
    odd = np.float32([np.nan, np.inf, -np.inf, -0.0])
    room = bytearray(8)
    assert cast(odd.tobytes(), dtype("F32"), dtype("F16"), memoryview(room)) == ""
    assert np.array_equal(np.frombuffer(room, "<f2"), odd.astype("<f2"), equal_nan=True)
    assert is_cast(odd.tobytes(), dtype("F32"), bytes(room), dtype("F16"))
    assert (
        cast(np.float32([1e6]).tobytes(), dtype("F32"), dtype("F16"), memoryview(bytearray(2)))
        == "not all values fit F16"
    )
    assert (
        cast(odd[1:2].tobytes(), dtype("F32"), dtype("F8_E4M3"), memoryview(bytearray(1)))
        == "not all values fit F8_E4M3"
    )
