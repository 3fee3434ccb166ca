"""Elements as float64 and back, and the reals that round to an element: what predictions and fits compute with."""

from __future__ import annotations

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
"""Elements to work on at a time: many enough that threads seldom wait for each other between two operations."""

_LARGEST = 1.7976931348623157e308  # of float64; integers above it cannot become one


def write(values: Values, dtype: Dtype, out: memoryview) -> None:
    """Round float64 values to the element type and write them; ``out`` has exactly their size."""
    out[:] = round_once(values, dtype)


def blocks(count: int) -> Iterator[slice]:
    """Yield the slices of an array of that many elements, ``BLOCK`` of them at a time."""
    for start in range(0, count, BLOCK):
        yield slice(start, min(start + BLOCK, count))


def of_bytes(elements: slice, dtype: Dtype) -> slice:
    """Return the slice of bytes in which a slice of elements lies."""
    width = dtype.bits // 8
    return slice(elements.start * width, elements.stop * width)


def rounding_interval(data: Buffer, dtype: Dtype) -> tuple[Values, Values, Values]:
    """Return the values of elements and between which reals each of them was rounded from.

    Args:
        data: Little-endian elements.
        dtype: A real float type.

    Returns:
        Values, lower ends and upper ends. Where a value is not finite the ends are NaN; next to the largest one the
        end is as far as on the other side.
    """
    import numpy as np

    width = dtype.bits // 8
    bits = np.frombuffer(memoryview(data), f"<u{width}")
    sign = bits.dtype.type(1 << (dtype.bits - 1))
    size = bits & ~sign
    values = to_float64(data, dtype)
    with np.errstate(invalid="ignore", over="ignore"):
        middle = np.abs(values)
        # Bit patterns of one sign are in the order of their values; below zero comes the smallest of the other sign.
        above = np.abs(to_float64(np.where(size < sign - 1, size + 1, size).astype(bits.dtype).data, dtype))
        below = np.abs(to_float64(np.where(size > 0, size - 1, 1).astype(bits.dtype).data, dtype))
        below = np.where(size > 0, below, -below)
        above = np.where(np.isfinite(above) & (above > middle), above, 2 * middle - below)
        outer, inner = (middle + above) / 2, (middle + below) / 2
        negative = (bits & sign) != 0
        low, high = np.where(negative, -outer, inner), np.where(negative, -inner, outer)
    unknown = ~np.isfinite(values)
    low[unknown] = high[unknown] = np.nan
    return values, low, high


def finite_number(params: Any, name: str) -> float:
    """Return a number among an encoding's parameters.

    Raises:
        CorruptError: It is missing, of another type or not finite.
    """
    value = params.get(name)
    if isinstance(value, bool) or not isinstance(value, int | float) or not abs(value) <= _LARGEST:
        raise CorruptError(f"parameter {name!r} of a chunk is not a finite number")
    return float(value)


def check_parent(chunk: Chunk, nbytes: int, needs: int) -> Base:
    """Return a chunk's parent, which an update is applied to.

    Raises:
        CorruptError: There are not ``needs`` bases, or the parent is not a tensor of real floats of the same type and
            shape that has the chunk's bytes.
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
    """Return a factor's values, which are read only if it has this shape.

    Raises:
        CorruptError: It has another shape or size, or is of no real float type.
    """
    if base.spec.shape != shape or not is_real(base.spec.dtype) or base.data.nbytes != base.spec.nbytes:
        raise CorruptError("a factor does not fit its tensor")
    return to_float64(base.data, base.spec.dtype).reshape(shape)
