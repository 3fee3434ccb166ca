"""Cut arrays into blocks whose elements are contiguous in row-major order, for reading and writing in order."""

from __future__ import annotations

from itertools import product
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

Block = tuple[slice, ...]


def block_shape(shape: Sequence[int], itemsize: int, most: int, multiple: Sequence[int] = ()) -> tuple[int, ...]:
    """Return the largest shape of contiguous blocks of at most some bytes.

    Args:
        shape: Of the array.
        itemsize: Size of an element in bytes.
        most: Size of a block in bytes; a block has at least one element.
        multiple: A shape whose sizes those of a block should be multiples of.

    Returns:
        A shape of ones, then one size, then sizes of the array.
    """
    row = itemsize
    sizes = [1] * len(shape)
    for axis in reversed(range(len(shape))):
        if row * shape[axis] > most:
            count = max(1, most // row)
            step = multiple[axis] if multiple else 1
            sizes[axis] = count if count < step else count // step * step
            break
        sizes[axis] = max(1, shape[axis])
        row *= shape[axis]
    return tuple(sizes)


def blocks(shape: Sequence[int], sizes: Sequence[int]) -> Iterator[Block]:
    """Yield the blocks of an array in row-major order; none if it has no elements."""
    starts = [range(0, size, step) for size, step in zip(shape, sizes, strict=True)]
    for corner in product(*starts):
        yield tuple(slice(at, min(at + step, size)) for at, step, size in zip(corner, sizes, shape, strict=True))


def touched(shape: Sequence[int], sizes: Sequence[int], chunk: Sequence[int]) -> int:
    """Return how many elements the chunks have that one block of an array is in, if both begin at the same element."""
    count = 1
    for size, step, part in zip(shape, sizes, chunk, strict=True):
        count *= min(max(1, size), -(-step // part) * part)
    return count
