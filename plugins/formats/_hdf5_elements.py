"""The element types of the datasets of an HDF5 file."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from git_theta_ext.errors import FormatError
from git_theta_ext.interfaces import NotSplittable, dtype, opaque

if TYPE_CHECKING:
    from collections.abc import Iterator

    from git_theta_ext.interfaces import Dtype

    from ._hdf5_file import File

_INTEGER, _FLOAT, _TIME, _STRING, _BITS, _OPAQUE, _COMPOUND, _REFERENCE, _ENUM, _VARIABLE, _ARRAY = range(11)
_POINTERS = (_REFERENCE, _VARIABLE)
"""Types whose values are references to elsewhere in the file."""
_PROPERTIES = {_INTEGER: 4, _FLOAT: 12, _TIME: 2, _STRING: 0, _BITS: 4, _REFERENCE: 0}
"""The bytes that follow the head of a type."""
_HEAD = 8
_FLOATS = {(2, 5, 10): "F16", (2, 8, 7): "BF16", (4, 8, 23): "F32", (8, 11, 52): "F64"}
"""Names by size in bytes, size of the exponent and of the mantissa in bits."""
_COMPLEX = {"F32": "C64", "F64": "C128"}
"""How two numbers of a type, the real and the imaginary part, are called; h5py and MATLAB write them."""
_PARTS = ((b"r", b"i"), (b"real", b"imag"))
_BIG_ENDIAN, _SIGNED = 1, 8
_WIDTHS = (1, 2, 4, 8)
_WIDEST = 100_000
_BOOLEAN = 64
"""Bytes at the start of an enumeration in which the name FALSE of numpy's booleans is."""
_LONGEST_NAME = 1 << 12
_DEEPEST = 16
_UNPADDED = 3
"""The version of types from which on names are not padded."""


@dataclass(frozen=True, slots=True)
class _Member:
    """A member of a compound type: its name, its offset in the element, and where its type is."""

    name: bytes
    offset: int
    at: int


def element_of(file: File, at: int) -> Dtype | None:
    """Return the element type that a datatype message describes; None if values are elsewhere in the file.

    Raises:
        FormatError: Elements are too wide, or the type is damaged.
        NotSplittable: It is not known.
    """
    kind, size = file.number(at, 1) & 0x0F, file.number(at + 4, 4)
    if not size:
        return None
    if size > _WIDEST:
        raise FormatError(f"elements of {size} bytes at byte {at}")
    if kind in (_INTEGER, _FLOAT):
        return _number(file, at, kind, size)
    if _end(file, at, 0)[1]:
        return None
    if kind == _ENUM and size == 1 and b"FALSE\0" in bytes(file.read(at, min(at + _BOOLEAN, file.data.nbytes))):
        return dtype("BOOL")
    if kind == _COMPOUND and (number := _complex(file, at, size)) is not None:
        return number
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


def _complex(file: File, at: int, size: int) -> Dtype | None:
    """Return the type of complex numbers if a compound type is one."""
    members = list(_members(file, at, 0))
    if tuple(member.name for member in members) not in _PARTS:
        return None
    parts = {file.number(member.at, 1) & 0x0F for member in members}
    kinds = (
        {_number(file, m.at, _FLOAT, file.number(m.at + 4, 4)).name for m in members} if parts == {_FLOAT} else set()
    )
    name = _COMPLEX.get(kinds.pop()) if len(kinds) == 1 else None
    if name is None or dtype(name).bits != 8 * size or [m.offset for m in members] != [0, size // 2]:
        return None
    return dtype(name)


def _end(file: File, at: int, depth: int) -> tuple[int, bool]:
    """Return where the description of a type ends, and whether values of it refer to elsewhere in the file."""
    file.count()
    if depth > _DEEPEST:
        raise NotSplittable(f"element types are nested more than {_DEEPEST} deep")
    head = file.number(at, 1)
    kind, version, bits = head & 0x0F, head >> 4, file.number(at + 1, 3)
    if kind in _PROPERTIES:
        return at + _HEAD + _PROPERTIES[kind], kind in _POINTERS
    if kind == _OPAQUE:
        return at + _HEAD + (bits & 0xFF), False
    if kind == _COMPOUND:
        end, pointers = at + _HEAD, False
        for member in _members(file, at, depth):
            end, points = _end(file, member.at, depth + 1)
            pointers |= points
        return end, pointers
    if kind == _ENUM:
        inner, pointers = _end(file, at + _HEAD, depth + 1)
        for _ in range(bits & 0xFFFF):
            _, inner = _name(file, inner, version)
        return inner + (bits & 0xFFFF) * file.number(at + 4, 4), pointers
    if kind == _VARIABLE:
        return _end(file, at + _HEAD, depth + 1)[0], True
    if kind == _ARRAY:
        rank = file.number(at + _HEAD, 1)
        sizes = at + _HEAD + (1 + 4 * rank if version >= _UNPADDED else 4 + 8 * rank)
        return _end(file, sizes, depth + 1)
    raise NotSplittable(f"an element type of class {kind}, which is unknown")


def _members(file: File, at: int, depth: int) -> Iterator[_Member]:
    """Yield the members of a compound type."""
    version, size = file.number(at, 1) >> 4, file.number(at + 4, 4)
    place = at + _HEAD
    for _ in range(file.number(at + 1, 2)):
        file.count()
        name, place = _name(file, place, version)
        width = max(1, (size.bit_length() + 7) // 8) if version >= _UNPADDED else 4
        offset = file.number(place, width)
        place += width + (28 if version == 1 else 0)  # the dimensions of an array, in the first version
        yield _Member(name, offset, place)
        place = _end(file, place, depth + 1)[0]


def _name(file: File, at: int, version: int) -> tuple[bytes, int]:
    """Return a name, and where it ends."""
    most = bytes(file.read(at, min(at + _LONGEST_NAME, file.data.nbytes)))
    name, found, _ = most.partition(b"\0")
    if not found:
        raise FormatError(f"the name at byte {at} does not end")
    length = len(name) + 1
    return name, at + (length if version >= _UNPADDED else -(-length // 8) * 8)
