"""Exact arithmetic on elements: apply a change to other values, and convert values to another type, rounding once.

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
"""Numbers that are computed at a time: few enough that intermediate results stay in the CPU's cache."""
_NO_INFINITY = ("F8_E4M3", "F8_E4M3FNUZ", "F8_E5M2FNUZ")


def apply_change(values: Sequence[Buffer], dtypes: Sequence[Dtype], into: Dtype, room: memoryview) -> str:
    """Compute ours + (theirs - base), exactly, rounded once.

    Args:
        values: The little-endian elements of ours, the base and theirs, the same number of each.
        dtypes: Their element types: floats, or complex numbers of one type.
        into: Element type of the result.
        room: Memory for the result.

    Returns:
        Why the result cannot be used; empty if it can.
    """
    import numpy as np

    operands = [to_float(data, kind) for data, kind in zip(values, dtypes, strict=True)]
    for whose, numbers in zip(("ours", "base", "theirs"), operands, strict=True):
        if not np.isfinite(numbers).all():
            return f"{whose} has NaN or infinite values"
    for start, stop in _blocks(len(operands[0]), components(into), into, room):
        ours, base, theirs = (numbers[start[0] : stop[0]].astype(np.float64) for numbers in operands)
        with np.errstate(over="ignore", invalid="ignore"):
            total = _sum(ours, base, theirs, exact=is_wide(into))
        if not (np.abs(total) <= largest(_real(into))).all():
            return f"the result does not fit {into.name}"
        room[start[1] : stop[1]] = round_once(total, _real(into))
    return ""


def cast(value: Buffer, dtype: Dtype, into: Dtype, room: memoryview) -> str:
    """Convert elements to another type, rounding once.

    Args:
        value: Little-endian elements.
        dtype: Their type: floats or complex numbers.
        into: The other type, of the same kind.
        room: Memory for the result.

    Returns:
        Why the result cannot be used; empty if it can.
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
    """Return whether elements are other elements in another type, changed by nothing but rounding.

    Types narrower than 32 bits may have been rounded to float32 first, as torch does.
    """
    import numpy as np

    numbers = to_float(value, dtype)
    expected = to_float(other, into)

    def same(data: bytes) -> bool:
        return bool(np.array_equal(to_float(data, _real(into)), expected, equal_nan=True))

    return same(round_once(numbers.astype(np.float64), _real(into))) or same(from_float(numbers, _real(into)))


def _real(dtype: Dtype) -> Dtype:
    """Return the type of the components of complex numbers; other types as they are."""
    return {"C64": named("F32"), "C128": named("F64")}.get(dtype.name, dtype)


def _blocks(
    numbers: int, per_element: int, into: Dtype, room: memoryview
) -> Iterator[tuple[tuple[int, int], tuple[int, int]]]:
    """Yield the start and the end of each block, in numbers and in bytes of the result."""
    size = into.bits // 8 // per_element
    assert room.nbytes == numbers * size
    for start in range(0, numbers, _BLOCK):
        stop = min(start + _BLOCK, numbers)
        yield (start, start * size), (stop, stop * size)


def _sum(ours: Any, base: Any, theirs: Any, *, exact: bool) -> Any:
    """Return ours + (theirs - base), rounded correctly if ``exact``, else rounded to odd for another rounding."""
    change, change_error = _two_sum(theirs, -base)
    total, error = _two_sum(ours, change)
    if not error.any() and not change_error.any():
        return total
    rest = _odd(*_two_sum(error, change_error))
    return total + rest if exact else _odd(*_two_sum(total, rest))


def _two_sum(one: Any, other: Any) -> tuple[Any, Any]:
    """Return the rounded sum, and the rounding error."""
    total = one + other
    part = total - one
    error = (one - (total - part)) + (other - part)
    return total, error


def _odd(total: Any, error: Any) -> Any:
    """Turn rounding to nearest into rounding to odd: an inexact sum becomes the neighbour whose last bit is set."""
    import numpy as np

    bits = total.view(np.int64)
    wrong = np.flatnonzero((error != 0) & ((bits & 1) == 0))
    outwards = (error[wrong] > 0) == (total[wrong] > 0)
    bits[wrong] += np.where(outwards, 1, -1)
    return total
