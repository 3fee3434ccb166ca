"""Convert elements to floats and back, for statistics and merges.

Types wider than 16 bits are numpy's own. BF16 is the upper half of a float32. The 8-bit floats are converted by a table
of their 256 values (OCP 8-bit floating point specification 1.0, and the FNUZ variants of arXiv 2206.02915). Rounding is
to nearest, ties to even. Overflow is handled as in torch 2.13: it gives infinity if the type has it and NaN otherwise,
except that F8_E4M3 saturates to its largest value.
"""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING, Any

from git_theta_ext.errors import FormatError

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray
    from typing_extensions import Buffer

    from git_theta_ext.model.dtypes import Dtype

_NUMPY = {"F16": "<f2", "F32": "<f4", "F64": "<f8", "C64": "<f4", "C128": "<f8"}
_WIDE = ("F64", "C128")
_SIGN = 0x80


def components(dtype: Dtype) -> int:
    """Return the number of reals in one element: two for complex types, the real part first."""
    return 2 if dtype.kind == "complex" else 1


def is_wide(dtype: Dtype) -> bool:
    """Return whether a conversion to float32 would lose bits or range of the values."""
    return dtype.name in _WIDE


def is_real(dtype: Dtype) -> bool:
    """Return whether an element type is a real float that allows arithmetic."""
    return dtype.kind == "float" and dtype.arithmetic


def to_float(data: Buffer, dtype: Dtype) -> NDArray[Any]:
    """Read elements as floats.

    Args:
        data: Little-endian elements.
        dtype: An element type that allows arithmetic.

    Returns:
        A new one-dimensional array with ``components(dtype)`` values for each element: float64 for F64 and C128, and
        float32 for all other types. The conversion is exact.

    Raises:
        FormatError: The element type does not allow arithmetic.
    """
    import numpy as np

    _check(dtype)
    view = memoryview(data)
    values: NDArray[Any]
    if dtype.name == "BF16":
        bits = np.frombuffer(view, "<u2").astype(np.uint32)
        values = np.left_shift(bits, 16, out=bits).view(np.float32)  # without a second array
    elif dtype.name in _NUMPY:
        values = np.frombuffer(view, _NUMPY[dtype.name]).astype(np.float64 if is_wide(dtype) else np.float32)
    else:
        values = _values(dtype)[np.frombuffer(view, np.uint8)]
    return values


def to_float64(data: Buffer, dtype: Dtype) -> NDArray[np.float64]:
    """Read elements as a new array of float64, exact; see ``to_float``."""
    import numpy as np

    with np.errstate(invalid="ignore"):  # a signalling NaN
        return to_float(data, dtype).astype(np.float64, copy=False)


def from_float(values: NDArray[Any], dtype: Dtype) -> bytes:
    """Write floats as elements, rounding to nearest, ties to even.

    Args:
        values: Float32 or float64 values, ``components(dtype)`` for each element. If the type is narrower than float32,
            float64 is rounded to float32 first, as in torch.
        dtype: An element type that allows arithmetic.

    Returns:
        Little-endian elements; NaN stays NaN.

    Raises:
        FormatError: The element type does not allow arithmetic.
    """
    import numpy as np

    _check(dtype)
    flat = np.ascontiguousarray(values).reshape(-1)
    with np.errstate(over="ignore", under="ignore", invalid="ignore"):
        if dtype.name in _NUMPY:
            narrow = flat.astype(np.float32) if dtype.name == "F16" else flat
            return narrow.astype(_NUMPY[dtype.name]).tobytes()
        single = flat.astype(np.float32)
    return _to_bf16(single) if dtype.name == "BF16" else _to_eight_bits(single, dtype)


def round_once(values: NDArray[np.float64], dtype: Dtype) -> bytes:
    """Write float64 values as elements of a real type, rounding only once, to nearest, ties to even.

    Args:
        values: An array of any shape. NaN, infinities and values too large for the type are not an error.
        dtype: A float type that allows arithmetic.

    Returns:
        Little-endian elements; NaN stays NaN.

    Raises:
        FormatError: The element type is not a float that allows arithmetic.
    """
    import numpy as np

    _check(dtype)
    if dtype.kind != "float":
        raise FormatError(f"elements of type {dtype.name} are not real floats")
    flat = np.ascontiguousarray(values).reshape(-1)
    with np.errstate(over="ignore", under="ignore", invalid="ignore"):
        if dtype.name in _NUMPY:
            return flat.astype(_NUMPY[dtype.name]).tobytes()
        if dtype.name != "BF16":
            return _to_eight_bits(flat, dtype)
        single = flat.astype(np.float32)
        bits = single.view(np.uint32)
        # The rounding to float32 may move a value exactly to the middle between two BF16 values.
        middle = np.flatnonzero((bits & np.uint32(0xFFFF)) == np.uint32(0x8000))
        size, exact = np.abs(single[middle].astype(np.float64)), np.abs(flat[middle])
        bits[middle] += (exact > size).astype(np.uint32)
        bits[middle] -= (exact < size).astype(np.uint32)
    return _to_bf16(single)


def largest(dtype: Dtype) -> float:
    """Return the largest finite value of a type that allows arithmetic."""
    import numpy as np

    _check(dtype)
    if dtype.name == "BF16":
        return float(to_float(b"\x7f\x7f", dtype)[0])
    if dtype.name in _NUMPY:
        return float(np.finfo(_NUMPY[dtype.name]).max)
    return float(np.nanmax(_values(dtype), where=np.isfinite(_values(dtype)), initial=0))


def _check(dtype: Dtype) -> None:
    if not dtype.arithmetic:
        raise FormatError(f"elements of type {dtype.name} do not support arithmetic")


def _to_bf16(single: NDArray[np.float32]) -> bytes:
    import numpy as np

    bits = single.view(np.uint32)
    # Adding slightly less than half of the last kept bit, plus that bit, carries exactly if the value rounds up.
    rounded = bits >> 16
    rounded &= np.uint32(1)
    rounded += np.uint32(0x7FFF)
    rounded += bits
    rounded >>= 16
    nan = np.flatnonzero(np.isnan(single))
    rounded[nan] = (bits[nan] >> 16) | np.uint32(0x40)
    return rounded.astype("<u2").tobytes()


def _to_eight_bits(single: NDArray[Any], dtype: Dtype) -> bytes:
    import numpy as np

    midpoints, overflow, nan = _rounding(dtype)
    size = np.abs(single)
    codes = np.searchsorted(midpoints, size, side="left")
    # A value at a midpoint is assigned to the lower neighbour so far; it belongs to the even one.
    nearest = np.minimum(codes, len(midpoints) - 1)
    codes = codes + ((size == midpoints[nearest]) & (codes % 2 == 1))
    codes = np.where(np.isnan(single), nan, np.where(codes < len(midpoints), codes, overflow))
    signs = np.where(np.signbit(single), _SIGN, 0)
    if dtype.name.endswith("FNUZ"):  # there is no negative zero; its code is NaN
        signs = np.where(codes == 0, 0, signs)
    return bytes((codes | signs).astype(np.uint8))


@cache
def _values(dtype: Dtype) -> NDArray[np.float32]:
    """Return the values of the 256 codes of an 8-bit float, in order of the codes."""
    import numpy as np

    unsigned_zero = dtype.name.endswith("FNUZ")
    bias = (1 << (dtype.exponent - 1)) - (0 if unsigned_zero else 1)
    codes = np.arange(256)
    exponent = (codes & 0x7F) >> dtype.mantissa
    fraction = (codes & ((1 << dtype.mantissa) - 1)) / (1 << dtype.mantissa)
    size = np.ldexp(np.where(exponent == 0, fraction, 1 + fraction), np.maximum(exponent, 1) - bias)
    values: NDArray[np.float32] = np.where(codes & _SIGN, -size, size).astype(np.float32)
    if unsigned_zero:
        values[_SIGN] = np.nan
    elif dtype.name == "F8_E4M3":
        values[[0x7F, 0xFF]] = np.nan
    else:
        values[exponent == (1 << dtype.exponent) - 1] = np.nan
        values[[0x7C, 0xFC]] = [np.inf, -np.inf]
    values.flags.writeable = False
    return values


@cache
def _rounding(dtype: Dtype) -> tuple[NDArray[np.float32], int, int]:
    """Return the midpoints between neighbouring magnitudes, and the codes of overflow and of NaN."""
    import numpy as np

    positive = _values(dtype)[:_SIGN]
    finite = positive[np.isfinite(positive)].astype(np.float64)
    # Rounding overflows from the midpoint to the value that would follow the largest one by an equal step.
    steps = np.append(finite, 2 * finite[-1] - finite[-2])
    midpoints = ((steps[:-1] + steps[1:]) / 2).astype(np.float32)
    overflow = len(finite) - 1 if dtype.name == "F8_E4M3" else len(finite)
    return midpoints, overflow, _SIGN if dtype.name.endswith("FNUZ") else 0x7F
