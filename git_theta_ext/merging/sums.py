"""Exact arithmetic on elements: a change applied to other values, and values in another element type, rounded once.

A sum of three float64 numbers is rounded correctly by the algorithm of Boldo and Melquiond (Emulation of a FMA and
correctly rounded sums: proved algorithms using rounding to odd, https://doi.org/10.1109/TC.2007.70819).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from git_theta_ext.model.dtypes import dtype as named
from git_theta_ext.model.floats import components, from_float, is_wide, largest, round_once, to_float

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from typing_extensions import Buffer

    from git_theta_ext.model.dtypes import Dtype

_BLOCK = 1 << 14
"""Numbers that are worked on at a time: few enough that what is made of them stays in the processor's cache."""
_NO_INFINITY = ("F8_E4M3", "F8_E4M3FNUZ", "F8_E5M2FNUZ")


def apply_change(values: Sequence[Buffer], dtypes: Sequence[Dtype], into: Dtype, room: memoryview) -> str:
    """Compute ours + (theirs - base), exactly, rounded once.

    Args:
        values: The little-endian elements of ours, the base and theirs, as many of each.
        dtypes: Their element types: floats, or complex numbers of one type.
        into: Element type of the result.
        room: Where its elements go.

    Returns:
        Why the result may not be used, empty if it may.
    """
    import numpy as np

    found = [to_float(data, kind) for data, kind in zip(values, dtypes, strict=True)]
    for whose, numbers in zip(("ours", "base", "theirs"), found, strict=True):
        if not np.isfinite(numbers).all():
            return f"{whose} has NaN or infinite values"
    for start, stop in _blocks(len(found[0]), components(into), into, room):
        ours, base, theirs = (numbers[start[0] : stop[0]].astype(np.float64) for numbers in found)
        with np.errstate(over="ignore", invalid="ignore"):
            total = _sum(ours, base, theirs, exact=is_wide(into))
        if not (np.abs(total) <= largest(_real(into))).all():
            return f"the result does not fit {into.name}"
        room[start[1] : stop[1]] = round_once(total, _real(into))
    return ""


def cast(value: Buffer, dtype: Dtype, into: Dtype, room: memoryview) -> str:
    """Write elements in another type, rounded once.

    Args:
        value: Little-endian elements.
        dtype: Their type, of floats or complex numbers.
        into: The other type, of the same kind.
        room: Where they go.

    Returns:
        Why the result may not be used, empty if it may.
    """
    import numpy as np

    numbers = to_float(value, dtype).astype(np.float64)
    size = np.abs(numbers)
    fits = np.isnan(size) | (size <= largest(_real(into)))
    if into.name not in _NO_INFINITY:
        fits |= np.isinf(size)
    if not fits.all():
        return f"not all values fit {into.name}"
    room[:] = round_once(numbers, _real(into))
    return ""


def is_cast(value: Buffer, dtype: Dtype, other: Buffer, into: Dtype) -> bool:
    """Tell whether elements are others, in another type and changed by nothing but rounding.

    What is narrower than 32 bits may have been rounded to float32 first, as torch does it.
    """
    import numpy as np

    numbers = to_float(value, dtype)
    found = to_float(other, into)

    def same(data: bytes) -> bool:
        return bool(np.array_equal(to_float(data, _real(into)), found, equal_nan=True))

    return same(round_once(numbers.astype(np.float64), _real(into))) or same(from_float(numbers, _real(into)))


def _real(dtype: Dtype) -> Dtype:
    """Return the type of the parts of complex numbers; other types as they are."""
    return {"C64": named("F32"), "C128": named("F64")}.get(dtype.name, dtype)


def _blocks(
    numbers: int, per_element: int, into: Dtype, room: memoryview
) -> Iterator[tuple[tuple[int, int], tuple[int, int]]]:
    """Yield where each block begins and ends, in numbers and in bytes of the result."""
    size = into.bits // 8 // per_element
    assert room.nbytes == numbers * size
    for start in range(0, numbers, _BLOCK):
        stop = min(start + _BLOCK, numbers)
        yield (start, start * size), (stop, stop * size)


def _sum(ours: Any, base: Any, theirs: Any, *, exact: bool) -> Any:
    """Return ours + (theirs - base), rounded correctly if ``exact``, else to odd, for one more rounding."""
    change, change_error = _two_sum(theirs, -base)
    total, error = _two_sum(ours, change)
    if not error.any() and not change_error.any():
        return total
    rest = _odd(*_two_sum(error, change_error))
    return total + rest if exact else _odd(*_two_sum(total, rest))


def _two_sum(one: Any, other: Any) -> tuple[Any, Any]:
    """Return the rounded sum, and what the rounding left out."""
    total = one + other
    part = total - one
    error = (one - (total - part)) + (other - part)
    return total, error


def _odd(total: Any, error: Any) -> Any:
    """Round to odd what was rounded to nearest: an inexact sum becomes that neighbour which has the last bit set."""
    import numpy as np

    bits = total.view(np.int64)
    wrong = np.flatnonzero((error != 0) & ((bits & 1) == 0))
    outwards = (error[wrong] > 0) == (total[wrong] > 0)
    bits[wrong] += np.where(outwards, 1, -1)
    return total
