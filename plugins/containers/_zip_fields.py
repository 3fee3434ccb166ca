"""Where a zip archive has the sizes, checksums and offsets of its members, to change them.

The formats read archives with ``_zip``, which checks them. This finds the places of the fields in what it accepted.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

from git_theta_ext.interfaces import NotSplittable, Part

# The package has another name where it is installed.
from ..formats import _zip  # noqa: TID252 - the package has another name where it is installed
from ..formats._zip_directory import read_entries  # noqa: TID252 - the package has another name where it is installed

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from git_theta_ext.interfaces import Content

    from ..formats._zip_directory import Entry  # noqa: TID252 - the package has another name where it is installed

STORED, DEFLATED = 0, 8
_LOCAL_SIZE, _ENTRY_SIZE = 30, 46
_FULL32 = 0xFFFFFFFF
_ZIP64_EXTRA = 1
_SIGNATURE = b"PK\7\x08"
_WIDE_DESCRIPTORS = (20, 24)
_END64_SIZE, _LOCATOR_SIZE = 56, 20


class Sizes(NamedTuple):
    """What the headers say about a member: how it is compressed, its CRC-32, its size in the file and without that."""

    method: int
    crc: int
    packed: int
    size: int


class _Field(NamedTuple):
    """The offset and the width in bytes of a number in a header."""

    at: int
    width: int

    def read(self, header: bytes | bytearray) -> int:
        return int.from_bytes(header[self.at : self.at + self.width], "little")

    def write(self, header: bytearray, value: int) -> None:
        if value >= (1 << 64 if self.width > 4 else _FULL32):  # noqa: PLR2004 - the width of 32 bits
            raise NotSplittable(f"{value} does not fit into a field of the zip archive")
        header[self.at : self.at + self.width] = value.to_bytes(self.width, "little")


@dataclass(frozen=True, slots=True)
class ArchiveMember:
    """A member, with the offsets of its parts in the file.

    Attributes:
        number: Its number in the order of the file.
        entry: It, as the directory lists it.
        start: Offset of its content.
        end: Offset of the first byte after its content, where a descriptor may be.
        limit: Offset of what follows, the next member or the directory.
    """

    number: int
    entry: Entry
    start: int
    end: int
    limit: int

    @property
    def header(self) -> int:
        """Offset of its header."""
        return self.entry.header

    @property
    def method(self) -> int:
        """How it is compressed."""
        return self.entry.method

    @property
    def size(self) -> int:
        """Size in bytes without compression."""
        return self.entry.size

    @property
    def crc(self) -> int:
        """CRC-32 of its content."""
        return self.entry.crc

    def part(self, data: Content) -> Part:
        """Return its content, given the file."""
        return Part(data, self.start, self.end)

    def patch_header(self, header: bytearray, sizes: Sizes) -> None:
        """Change its header. Sizes and checksums that follow in a descriptor are zero, and stay so."""
        _Field(8, 2).write(header, sizes.method)
        name_size = int.from_bytes(header[26:28], "little")
        size, packed = _wide(header, _LOCAL_SIZE + name_size, len(header), (_Field(22, 4), _Field(18, 4)))
        if packed.read(header):
            _put_crc(header, 14, sizes.crc)
            packed.write(header, sizes.packed)
            size.write(header, sizes.size)

    def patch_descriptor(self, descriptor: bytearray, sizes: Sizes) -> None:
        """Change what follows its content, if anything does."""
        if descriptor:
            at = len(_SIGNATURE) if descriptor.startswith(_SIGNATURE) else 0
            _put_crc(descriptor, at, sizes.crc)
            width = 8 if len(descriptor) in _WIDE_DESCRIPTORS else 4
            _Field(at + 4, width).write(descriptor, sizes.packed)
            _Field(at + 4 + width, width).write(descriptor, sizes.size)


@dataclass(frozen=True)
class Archive:
    """An archive.

    Attributes:
        members: In the order of the file.
        directory: The directory and what follows.
        start: Offset of the directory.
    """

    members: Sequence[ArchiveMember]
    directory: bytes
    start: int

    def directory_at(self, offset: int, moved: Mapping[int, tuple[int, Sizes]]) -> bytes:
        """Return the directory for another offset, and for other offsets and contents of members by their numbers."""
        made = bytearray(self.directory)
        end = 0
        for member in self.members:
            at = member.entry.at - self.start
            name, extra, comment = struct.unpack_from("<3H", made, at + 28)
            header, sizes = moved[member.number]
            fields = (_Field(at + 24, 4), _Field(at + 20, 4), _Field(at + 42, 4))
            extra_at = at + _ENTRY_SIZE + name
            size, packed, place = _wide(made, extra_at, extra_at + extra, fields)
            _Field(at + 10, 2).write(made, sizes.method)
            _put_crc(made, at + 16, sizes.crc)
            packed.write(made, sizes.packed)
            size.write(made, sizes.size)
            place.write(made, header)
            end = max(end, extra_at + extra + comment)
        if made[end : end + 4] == b"PK\6\6":
            _move(made, _Field(end + 48, 8), offset - self.start)
            end = made.index(b"PK\6\7", end + _END64_SIZE)
            _move(made, _Field(end + 8, 8), offset - self.start)
            end += _LOCATOR_SIZE
        _move(made, _Field(end + 16, 4), offset - self.start)
        return bytes(made)


def read_archive(data: Content) -> Archive:
    """Read the directory and the headers of an archive.

    Raises:
        FormatError: The archive is damaged.
        NotSplittable: A member is encrypted, or some bytes do not belong to a member.
    """
    members = _zip.members(data, compressed=True)
    entries, start = read_entries(data)
    entries.sort(key=lambda entry: entry.header)
    limits = [*(entry.header for entry in entries[1:]), start]
    listed = [
        ArchiveMember(number, entry, member.start, member.end, limit)
        for number, (entry, member, limit) in enumerate(zip(entries, members, limits, strict=True))
    ]
    return Archive(listed, bytes(data[start:]), start)


def _put_crc(header: bytearray, at: int, value: int) -> None:
    header[at : at + 4] = value.to_bytes(4, "little")


def _move(data: bytearray, field: _Field, by: int) -> None:
    if field.width > 4 or field.read(data) != _FULL32:  # noqa: PLR2004 - a marked field of 32 bits has no value
        field.write(data, field.read(data) + by)


def _wide(header: bytearray, at: int, end: int, fields: Sequence[_Field]) -> list[_Field]:
    """Return where the values of fields are: those that are marked are in the extra field, with 64 bits, in order."""
    wide: list[_Field] = []
    while at + 4 <= end:
        kind, size = struct.unpack_from("<2H", header, at)
        if kind == _ZIP64_EXTRA:
            wide = [_Field(at + 4 + 8 * n, 8) for n in range(size // 8)]
            break
        at += 4 + size
    return [wide.pop(0) if field.read(header) == _FULL32 and wide else field for field in fields]
