"""Find the members of a zip archive without reading them: the central directory, checked against the local headers.

This follows PKWARE's APPNOTE 6.3.10. All values in the archive are checked before they are used. The headers, members
and directory must account for every byte of the file. Otherwise several concatenated archives, as in files of
torch.distributed, would be taken for a single one. Reading takes at most 16 times the directory's size in memory, and
linear time, because members do not overlap.
"""

from __future__ import annotations

import struct
from bisect import bisect_right
from dataclasses import dataclass
from typing import TYPE_CHECKING

from git_theta_ext.errors import FormatError
from git_theta_ext.interfaces import Literal, NotSplittable, Slice

from ._zip_directory import read_entries, read_zip64, unaccounted

if TYPE_CHECKING:
    from git_theta_ext.interfaces import Content, Layout, Segment

    from ._zip_directory import Entry

_LOCAL = struct.Struct("<4s5H3L2H")
_LOCAL_CRC = 14
_ENTRY_CRC = 16
_ENCRYPTED = 0x2041  # bits 0, 6 and 13
_DESCRIPTOR = 0x8
_DESCRIPTORS = (12, 16, 20, 24)  # sizes: with or without a signature, of 32 or 64 bits


@dataclass(frozen=True, slots=True)
class Member:
    """A member.

    Attributes:
        name: Name in the central directory.
        start: Offset of its first byte in the file.
        size: Size in bytes, of what it is compressed to if it is.
        checksums: Offsets of the fields with its CRC-32.
        compressed: Whether it is compressed.
    """

    name: str
    start: int
    size: int
    checksums: tuple[int, ...]
    compressed: bool = False

    @property
    def end(self) -> int:
        """Offset of the first byte after it."""
        return self.start + self.size


def first_name(data: Content) -> str | None:
    """Return the name in the archive's first local header; None if the file does not begin with one."""
    if data.nbytes < _LOCAL.size or bytes(data[:4]) != b"PK\3\4":
        return None
    length = _LOCAL.unpack(data[: _LOCAL.size])[9]
    return bytes(data[_LOCAL.size : _LOCAL.size + length]).decode(errors="replace")


def names(data: Content) -> list[str]:
    """Return the names in the central directory; none if it cannot be read. Never raises."""
    try:
        return [entry.name for entry in read_entries(data)[0]]
    except (FormatError, NotSplittable):
        return []


def members(data: Content, *, compressed: bool = False) -> list[Member]:
    """Find every member of an archive, in file order.

    Args:
        data: The whole file.
        compressed: Whether members may be compressed.

    Raises:
        FormatError: The archive is damaged or contradicts itself. The message names the member.
        NotSplittable: A member is encrypted, or compressed if none may be, or some bytes do not belong to a member.
    """
    entries, limit = read_entries(data)
    seen: set[str] = set()
    for entry in entries:
        if entry.name in seen:
            raise FormatError(f"zip member {entry.name!r} exists twice")
        seen.add(entry.name)
    entries.sort(key=lambda entry: entry.header)
    first, *limits = *(entry.header for entry in entries), limit
    if first:
        raise unaccounted(0, first)
    ordered = [_member(data, entry, bound) for entry, bound in zip(entries, limits, strict=True)]
    for entry in entries:
        if entry.flags & _ENCRYPTED:
            raise NotSplittable(f"zip member {entry.name!r} is encrypted")
    if not compressed:
        for member in ordered:
            require_stored(member)
    return ordered


def require_stored(member: Member) -> None:
    """Raise an error if a member is compressed.

    Raises:
        NotSplittable: It is.
    """
    if member.compressed:
        raise NotSplittable(f"zip member {member.name!r} is compressed")


def literals(layout: Layout) -> dict[str, bytes]:
    """Return the bytes outside the tensors of each member, given the layout of an archive.

    Raises:
        FormatError: The layout is not that of an archive.
    """
    pieces = [(at, _literal(segment)) for at, segment in layout.located() if not isinstance(segment, Slice)]
    starts = [at for at, _ in pieces]

    def read(start: int, end: int) -> bytes:
        overlapping = pieces[max(0, bisect_right(starts, start) - 1) : bisect_right(starts, end)]
        return b"".join(data[max(0, start - at) : max(0, end - at)] for at, data in overlapping)

    tail: list[bytes] = []
    for segment in reversed(layout.segments):
        if isinstance(segment, Slice):
            break
        tail.append(_literal(segment))
    data = memoryview(b"".join(reversed(tail)))
    members: dict[str, bytes] = {}
    for entry in read_entries(data, layout.nbytes - data.nbytes)[0]:
        local = read(entry.header, entry.header + _LOCAL.size)
        if len(local) < _LOCAL.size:
            raise FormatError(f"zip member {entry.name!r} is not at byte {entry.header}")
        *_, name_size, extra_size = _LOCAL.unpack(local)
        start = entry.header + _LOCAL.size + name_size + extra_size
        members[entry.name] = read(start, start + entry.packed)
    return members


def _literal(segment: Segment) -> bytes:
    return segment.data if isinstance(segment, Literal) else bytes(segment.nbytes)


def _member(data: Content, entry: Entry, limit: int) -> Member:
    at = entry.header
    if at + _LOCAL.size > limit or bytes(data[at : at + 4]) != b"PK\3\4":
        raise FormatError(f"zip member {entry.name!r} is not at byte {at}, or overlaps the next")
    _, _, flags, method, _, _, crc, packed, size, name_size, extra_size = _LOCAL.unpack(data[at : at + _LOCAL.size])
    name_at = at + _LOCAL.size
    start = name_at + name_size + extra_size
    end = start + entry.packed
    if end > limit:
        raise FormatError(f"zip member {entry.name!r} of {entry.packed} bytes overlaps byte {limit}")
    if bytes(data[name_at : name_at + name_size]) != entry.raw_name:
        raise FormatError(f"zip member {entry.name!r} has a different name in its own header")
    later = bool(flags & _DESCRIPTOR)
    size, packed = read_zip64(data[name_at + name_size : start], (size, packed), entry.name)
    pairs = zip((size, packed, crc), (entry.size, entry.packed, entry.crc), strict=True)
    agrees = all(local == central or (later and not local) for local, central in pairs)
    agrees &= method == entry.method and not (flags ^ entry.flags) & (_ENCRYPTED | _DESCRIPTOR)
    if not agrees or (not method and entry.size != entry.packed):
        raise FormatError(f"zip member {entry.name!r} contradicts its entry in the directory")
    checksums = [entry.at + _ENTRY_CRC]
    if not later:
        checksums.append(at + _LOCAL_CRC)
    else:
        described = end + 4 if bytes(data[end : end + 4]) == b"PK\7\x08" else end
        if described + 12 <= limit:
            checksums.append(described)
    if limit - end not in (_DESCRIPTORS if later else (0,)):
        raise unaccounted(end, limit)
    return Member(entry.name, start, entry.packed, tuple(checksums), bool(entry.method))
