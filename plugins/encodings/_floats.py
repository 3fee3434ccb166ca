"""Convert elements to float64 and back, and find the reals that round to an element, for predictions and fits."""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING, Any

from git_theta_ext.errors import CorruptError
from git_theta_ext.interfaces import is_real, round_once, to_float64

if TYPE_CHECKING:
    from collections.abc import Iterator

    import numpy as np
    from numpy.typing import NDArray
    from typing_extensions import Buffer

    from git_theta_ext.interfaces import Base, Chunk, Dtype

    Values = NDArray[np.float64]

BLOCK = 1 << 18
"""The number of elements per operation, large enough that threads rarely wait for each other between operations."""

_FEW_BITS = 16
"""The widest elements whose intervals are looked up in a table."""

_LARGEST = 1.7976931348623157e308  # of float64; larger integers cannot be converted


def write(values: Values, dtype: Dtype, out: memoryview) -> None:
    """Round float64 values to the element type and write them; ``out`` has exactly their size."""
    out[:] = round_once(values, dtype)


def blocks(count: int) -> Iterator[slice]:
    """Yield slices of ``BLOCK`` elements that cover an array of ``count`` elements."""
    for start in range(0, count, BLOCK):
        yield slice(start, min(start + BLOCK, count))


def of_bytes(elements: slice, dtype: Dtype) -> slice:
    """Return the slice of bytes that a slice of elements takes."""
    width = dtype.bits // 8
    return slice(elements.start * width, elements.stop * width)


def rounding_interval(data: Buffer, dtype: Dtype) -> tuple[Values, Values]:
    """Return the ends of the interval of the reals that round to each element.

    Args:
        data: Little-endian elements.
        dtype: A real float type.

    Returns:
        Lower ends and upper ends. They are NaN if a value is not finite. Beyond the largest value, the end is as far
        away as on the other side.
    """
    import numpy as np

    bits = np.frombuffer(memoryview(data), f"<u{dtype.bits // 8}")
    if dtype.bits <= _FEW_BITS:
        low, high = _all_intervals(dtype)
        places = bits.astype(np.intp)
        return low.take(places), high.take(places)
    return _intervals(bits, dtype)


@cache
def _all_intervals(dtype: Dtype) -> tuple[Values, Values]:
    """Return the intervals of all elements of a narrow type, in the order of their bits."""
    import numpy as np

    return _intervals(np.arange(1 << dtype.bits).astype(f"<u{dtype.bits // 8}"), dtype)


def _intervals(bits: NDArray[Any], dtype: Dtype) -> tuple[Values, Values]:
    import numpy as np

    sign = bits.dtype.type(1 << (dtype.bits - 1))
    size = bits & ~sign
    values = to_float64(bits.data, dtype)
    with np.errstate(invalid="ignore", over="ignore"):
        middle = np.abs(values)
        # Bit patterns of one sign are in the order of their values; below zero is the smallest value of the other sign.
        above = np.abs(to_float64(np.where(size < sign - 1, size + 1, size).astype(bits.dtype).data, dtype))
        below = np.abs(to_float64(np.where(size > 0, size - 1, 1).astype(bits.dtype).data, dtype))
        below = np.where(size > 0, below, -below)
        above = np.where(np.isfinite(above) & (above > middle), above, 2 * middle - below)
        outer, inner = (middle + above) / 2, (middle + below) / 2
        negative = (bits & sign) != 0
        low, high = np.where(negative, -outer, inner), np.where(negative, -inner, outer)
    unknown = ~np.isfinite(values)
    low[unknown] = high[unknown] = np.nan
    return low, high


def finite_number(params: Any, name: str) -> float:
    """Return a number among an encoding's parameters.

    Raises:
        CorruptError: The number is missing, of another type or not finite.
    """
    value = params.get(name)
    if isinstance(value, bool) or not isinstance(value, int | float) or not abs(value) <= _LARGEST:
        raise CorruptError(f"parameter {name!r} of a chunk is not a finite number")
    return float(value)


def check_parent(chunk: Chunk, nbytes: int, needs: int) -> Base:
    """Return the parent of a chunk, to which an update is applied.

    Raises:
        CorruptError: The number of bases is not ``needs``, or the parent is not a tensor of real floats with the type
            and shape of the chunk's tensor and the size of the chunk.
    """
    if len(chunk.bases) != needs:
        raise CorruptError(f"a chunk has {len(chunk.bases)} bases instead of {needs}")
    parent = chunk.bases[0]
    if parent.spec != chunk.spec or not is_real(chunk.spec.dtype) or parent.data.nbytes != nbytes:
        raise CorruptError("a chunk does not fit its parent")
    width = chunk.spec.dtype.bits // 8
    if nbytes % width or chunk.offset % width or not 0 <= chunk.offset <= chunk.spec.nbytes - nbytes:
        raise CorruptError("a chunk lies outside its tensor")
    return parent


def factor(base: Base, shape: tuple[int, ...]) -> Values:
    """Return the values of a factor, which are read only if it has this shape.

    Raises:
        CorruptError: The factor has another shape or size, or is not of a real float type.
    """
    if base.spec.shape != shape or not is_real(base.spec.dtype) or base.data.nbytes != base.spec.nbytes:
        raise CorruptError("a factor does not fit its tensor")
    return to_float64(base.data, base.spec.dtype).reshape(shape)
