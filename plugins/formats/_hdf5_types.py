"""The element types, shapes and layouts of the datasets of an HDF5 file."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from git_theta_ext.errors import FormatError
from git_theta_ext.interfaces import MAX_DIMENSIONS, Dtype, NotSplittable, dtype, opaque

if TYPE_CHECKING:
    from ._hdf5_file import File, Message

_INTEGER, _FLOAT, _STRING, _COMPOUND, _REFERENCE, _ENUM, _VARIABLE, _ARRAY = 0, 1, 3, 6, 7, 8, 9, 10
_POINTERS = (_COMPOUND, _REFERENCE, _VARIABLE, _ARRAY)
"""Types whose values may be references to elsewhere in the file."""
_FLOATS = {(2, 5, 10): "F16", (2, 8, 7): "BF16", (4, 8, 23): "F32", (8, 11, 52): "F64"}
"""Names by size in bytes, size of the exponent and of the mantissa in bits."""
_BIG_ENDIAN, _SIGNED = 1, 8
_WIDTHS = (1, 2, 4, 8)
_WIDEST = 100_000
_BOOLEAN = 64
"""Bytes at the start of an enumeration in which the name FALSE of numpy's booleans is."""
_COMPACT, _CONTIGUOUS, _CHUNKED = range(3)
_LAYOUTS = (3, 4, 5)
_FILTERED = 2
TREE, SINGLE, IMPLICIT = range(3)
"""How the chunks of a dataset are found: in a B-tree of version 1, one chunk, or one behind the other."""

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


def element_of(file: File, at: int) -> Dtype | None:
    """Return the element type that a datatype message describes; None if values are elsewhere in the file.

    Raises:
        FormatError: Elements are too wide.
    """
    kind, size = file.number(at, 1) & 0x0F, file.number(at + 4, 4)
    if not size or kind in _POINTERS:
        return None
    if size > _WIDEST:
        raise FormatError(f"elements of {size} bytes at byte {at}")
    if kind in (_INTEGER, _FLOAT):
        return _number(file, at, kind, size)
    if kind == _ENUM and size == 1 and b"FALSE\0" in bytes(file.read(at, min(at + _BOOLEAN, file.data.nbytes))):
        return dtype("BOOL")
    return opaque(8 * size, f"S{size}" if kind == _STRING else f"h5t{kind}")


def _number(file: File, at: int, kind: int, size: int) -> Dtype:
    bits = file.number(at + 1, 3)
    order = ">" if bits & _BIG_ENDIAN and size > 1 else "<"
    if kind == _FLOAT:
        name = _FLOATS.get((size, file.number(at + 13, 1), file.number(at + 15, 1)))
        return dtype(name) if order == "<" and name else opaque(8 * size, f"{order}f{size}")
    letter = "i" if bits & _SIGNED else "u"
    whole = file.number(at + 8, 2) == 0 and file.number(at + 10, 2) == 8 * size
    if order == "<" and whole and size in _WIDTHS:
        return dtype(f"{letter.upper()}{8 * size}")
    return opaque(8 * size, f"{order}{letter}{size}")


def layout_of(file: File, message: Message) -> Contiguous | Chunked | None:
    """Return where a layout message says that the values are; None if they are in the header itself.

    Raises:
        FormatError: The chunks have too many dimensions.
    """
    at = message.start
    version, kind = file.number(at, 1), file.number(at + 1, 1)
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
    if index in (SINGLE, IMPLICIT):
        return Chunked(file.address(at + 1), shape, index)
    raise NotSplittable("it has an index of chunks that is not read: a B-tree of version 2 or an array")


def _chunk_shape(file: File, at: int, rank: int, width: int) -> tuple[int, ...]:
    if not 0 <= rank <= MAX_DIMENSIONS or not 0 < width <= 8:  # noqa: PLR2004 - bytes of an integer
        raise FormatError(f"chunks of {rank} dimensions at byte {at}")
    return tuple(file.number(at + n * width, width) for n in range(rank))
