"""The shapes and layouts of the datasets of an HDF5 file."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from git_theta_ext.errors import FormatError
from git_theta_ext.interfaces import MAX_DIMENSIONS, NotSplittable

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ._hdf5_file import File, Message

_COMPACT, _CONTIGUOUS, _CHUNKED, _VIRTUAL = range(4)
_LAYOUTS = (3, 4, 5)
_FILTERED = 2
TREE, SINGLE, IMPLICIT, FIXED, EXTENSIBLE, TREE_2 = range(6)
"""How chunks are found: one chunk, one behind the other, by an array, or by a B-tree of version 1 or 2."""
_PARAMETERS = {IMPLICIT: 0, SINGLE: 0, FIXED: 1, EXTENSIBLE: 5, TREE_2: 6}
"""The bytes between the kind of an index and its address."""

_SIMPLE = 2


@dataclass(frozen=True, slots=True)
class Contiguous:
    """A dataset that is in one piece; its address is None if it has no content."""

    address: int | None
    nbytes: int


@dataclass(frozen=True, slots=True)
class Chunked:
    """A dataset that is in chunks.

    Attributes:
        address: Where their index is; None if it has no content.
        shape: Shape of a chunk.
        index: How they are found.
        nbytes: Size of a single filtered chunk; zero if it follows from the shape.
    """

    address: int | None
    shape: tuple[int, ...]
    index: int = TREE
    nbytes: int = 0


def shape_of(file: File, message: Message) -> tuple[int, ...] | None:
    """Return the shape that a dataspace message describes; None if there are no elements.

    Raises:
        FormatError: It has too many dimensions, or an unknown version.
    """
    version, rank = file.number(message.start, 1), file.number(message.start + 1, 1)
    if version not in (1, 2) or rank > MAX_DIMENSIONS:
        raise FormatError(f"a dataspace of version {version} with {rank} dimensions at byte {message.start}")
    if version == 2 and file.number(message.start + 3, 1) == _SIMPLE:  # noqa: PLR2004 - the version with a type
        return None
    at = message.start + (8 if version == 1 else 4)
    return tuple(file.length(at + n * file.length_size) for n in range(rank))


def most_of(file: File, message: Message, shape: Sequence[int]) -> tuple[int | None, ...]:
    """Return the sizes up to which each dimension of a dataset may grow; None where there is no limit."""
    version, rank, flags = (file.number(message.start + n, 1) for n in range(3))
    if not flags & 1:
        return tuple(shape)
    at = message.start + (8 if version == 1 else 4) + rank * file.length_size
    sizes = [file.length(at + n * file.length_size) for n in range(rank)]
    return tuple(None if size + 1 == 1 << 8 * file.length_size else size for size in sizes)


def layout_of(file: File, message: Message) -> Contiguous | Chunked | None:
    """Return where a layout message says that the values are; None if they are in the header or elsewhere.

    Raises:
        FormatError: The chunks have too many dimensions.
    """
    at = message.start
    version, kind = file.number(at, 1), file.number(at + 1, 1)
    if kind == _VIRTUAL:
        return None
    if version not in _LAYOUTS or kind > _CHUNKED:
        raise NotSplittable(f"a dataset has layout {kind} of version {version}, which is not read")
    if kind == _COMPACT:
        return None
    if kind == _CONTIGUOUS:
        return Contiguous(file.address(at + 2), file.length(at + 2 + file.offset_size))
    if version == _LAYOUTS[0]:
        rank, address = file.number(at + 2, 1) - 1, file.address(at + 3)
        at += 3 + file.offset_size
        return Chunked(address, _chunk_shape(file, at, rank, 4))
    flags, rank, width = (file.number(at + n, 1) for n in (2, 3, 4))
    shape = _chunk_shape(file, at + 5, rank - 1, width)
    at += 5 + rank * width
    index = file.number(at, 1)
    if index == SINGLE and flags & _FILTERED:
        return Chunked(file.address(at + 5 + file.length_size), shape, index, file.length(at + 1))
    if index not in _PARAMETERS:
        raise NotSplittable(f"it has an index of chunks of kind {index}, which is unknown")
    return Chunked(file.address(at + 1 + _PARAMETERS[index]), shape, index)


def _chunk_shape(file: File, at: int, rank: int, width: int) -> tuple[int, ...]:
    if not 0 <= rank <= MAX_DIMENSIONS or not 0 < width <= 8:  # noqa: PLR2004 - bytes of an integer
        raise FormatError(f"chunks of {rank} dimensions at byte {at}")
    return tuple(file.number(at + n * width, width) for n in range(rank))
