"""The chunks of a dataset in an HDF5 file, whichever index lists them."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from git_theta_ext.errors import FormatError
from git_theta_ext.interfaces import NotSplittable

from ._hdf5_arrays import Entry, extensible, fixed
from ._hdf5_heaps import records
from ._hdf5_trees import chunks
from ._hdf5_types import EXTENSIBLE, FIXED, IMPLICIT, TREE, TREE_2

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from ._hdf5_file import File
    from ._hdf5_types import Chunked

    Place = tuple[tuple[int, ...], int, int]
    """The position of a chunk in chunks, its address and its size in bytes."""

_LEAST_CHUNK = 1 << 5
_PLAIN, _FILTERED = 10, 11
"""The kinds of a B-tree of version 2 whose records are chunks."""


def places(
    file: File, layout: Chunked, shape: Sequence[int], most: Sequence[int | None], nbytes: int
) -> Iterator[Place]:
    """Yield the chunks of a dataset, in the order of their index.

    Args:
        file: The file.
        layout: Of the dataset, with an address.
        shape: Shape of the dataset.
        most: The sizes up to which its dimensions may grow.
        nbytes: Size in bytes of a chunk that passed no filter.

    Raises:
        FormatError: The index is damaged.
        NotSplittable: There are too many chunks.
    """
    address = layout.address
    assert address is not None
    if layout.index == TREE:
        for offset, place, size in chunks(file, address, len(shape)):
            yield tuple(n // count for n, count in zip(offset, layout.shape, strict=True)), place, size
    elif layout.index == IMPLICIT:
        yield from _implicit(file, layout, _grid(shape, layout), nbytes)
    elif layout.index == FIXED:
        grid = _grid([n if limit is None else limit for n, limit in zip(shape, most, strict=True)], layout)
        for entry in fixed(file, address, math.prod(grid)):
            yield _unraveled(entry.number, grid), entry.address, _size(entry, nbytes)
    elif layout.index == EXTENSIBLE:
        yield from _extensible(file, layout, shape, most, nbytes)
    elif layout.index == TREE_2:
        yield from _listed(file, address, len(shape), nbytes)
    else:
        yield (0,) * len(shape), address, layout.nbytes or nbytes


def _grid(shape: Sequence[int], layout: Chunked) -> list[int]:
    return [-(-n // size) for n, size in zip(shape, layout.shape, strict=True)]


def _size(entry: Entry, nbytes: int) -> int:
    return nbytes if entry.nbytes is None else entry.nbytes


def _unraveled(number: int, grid: Sequence[int]) -> tuple[int, ...]:
    """Return the position of a chunk in a grid, whose first dimension has no limit, given its number."""
    position: list[int] = []
    for size in reversed(grid[1:]):
        number, rest = divmod(number, size)
        position.append(rest)
    return (number, *reversed(position))


def _implicit(file: File, layout: Chunked, grid: Sequence[int], nbytes: int) -> Iterator[Place]:
    """Yield chunks that follow each other."""
    assert layout.address is not None
    count = math.prod(grid)
    if layout.address + count * nbytes > file.data.nbytes:
        raise FormatError(f"{count} chunks of {nbytes} bytes at byte {layout.address}; the file may be truncated")
    if count > 1 and nbytes < _LEAST_CHUNK:
        raise NotSplittable(f"it has chunks of {nbytes} bytes")
    for number in range(count):
        file.count()
        yield _unraveled(number, grid), layout.address + number * nbytes, nbytes


def _extensible(
    file: File, layout: Chunked, shape: Sequence[int], most: Sequence[int | None], nbytes: int
) -> Iterator[Place]:
    """Yield chunks by the array that grows with the only dimension without a limit, which counts first."""
    assert layout.address is not None
    if list(most).count(None) != 1:
        raise FormatError(f"an array of chunks for {list(most).count(None)} dimensions without a limit")
    grows = list(most).index(None)
    order = [grows, *(n for n in range(len(shape)) if n != grows)]
    grid = _grid([n if limit is None else limit for n, limit in zip(shape, most, strict=True)], layout)
    if not all(grid[n] for n in order[1:]):
        return
    for entry in extensible(file, layout.address):
        swapped = _unraveled(entry.number, [grid[n] for n in order])
        position = [0] * len(shape)
        for dimension, number in zip(order, swapped, strict=True):
            position[dimension] = number
        yield tuple(position), entry.address, _size(entry, nbytes)


def _listed(file: File, tree: int, rank: int, nbytes: int) -> Iterator[Place]:
    """Yield the chunks in a B-tree of version 2."""
    for at, size in records(file, tree, (_PLAIN, _FILTERED)):
        address = file.address(at)
        positions = at + size - 8 * rank
        width = size - 8 * rank - file.offset_size
        if address is None or width < 0:
            raise FormatError(f"the chunk at byte {at} is nowhere")
        length = file.number(at + file.offset_size, width - 4) if width else nbytes
        yield tuple(file.number(positions + 8 * n, 8) for n in range(rank)), address, length
