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

if TYPE_CHECKING:
    from collections.abc import Iterator

    from git_theta_ext.interfaces import Content, Layout, Segment

_END = struct.Struct("<4s4H2LH")
_END64 = struct.Struct("<4sQ2H2L4Q")
_END64_HEAD = 12  # bytes before those that its size field counts
_LOCATOR = struct.Struct("<4sLQL")
_ENTRY = struct.Struct("<4s6H3L5H2L")
_LOCAL = struct.Struct("<4s5H3L2H")
_LOCAL_CRC = 14
_ENTRY_CRC = 16
_MAX_COMMENT = 0xFFFF
_MAX_ENTRIES = 1 << 20
_FULL16 = 0xFFFF
_FULL32 = 0xFFFFFFFF
_ENCRYPTED = 0x2041  # bits 0, 6 and 13
_DESCRIPTOR = 0x8
_DESCRIPTORS = (12, 16, 20, 24)  # sizes: with or without a signature, of 32 or 64 bits
_UTF8 = 0x800
_ZIP64_EXTRA = 1


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


@dataclass(frozen=True, slots=True)
class _Entry:
    name: str
    raw_name: bytes
    flags: int
    method: int
    crc: int
    packed: int
    size: int
    header: int
    at: int


def first_name(data: Content) -> str | None:
    """Return the name in the archive's first local header; None if the file does not begin with one."""
    if data.nbytes < _LOCAL.size or bytes(data[:4]) != b"PK\3\4":
        return None
    length = _LOCAL.unpack(data[: _LOCAL.size])[9]
    return bytes(data[_LOCAL.size : _LOCAL.size + length]).decode(errors="replace")


def names(data: Content) -> list[str]:
    """Return the names in the central directory; none if it cannot be read. Never raises."""
    try:
        return [entry.name for entry in _entries(data)[0]]
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
    entries, limit = _entries(data)
    seen: set[str] = set()
    for entry in entries:
        if entry.name in seen:
            raise FormatError(f"zip member {entry.name!r} exists twice")
        seen.add(entry.name)
    entries.sort(key=lambda entry: entry.header)
    first, *limits = *(entry.header for entry in entries), limit
    if first:
        raise _unaccounted(0, first)
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
    for entry in _entries(data, layout.nbytes - data.nbytes)[0]:
        local = read(entry.header, entry.header + _LOCAL.size)
        if len(local) < _LOCAL.size:
            raise FormatError(f"zip member {entry.name!r} is not at byte {entry.header}")
        *_, name_size, extra_size = _LOCAL.unpack(local)
        start = entry.header + _LOCAL.size + name_size + extra_size
        members[entry.name] = read(start, start + entry.packed)
    return members


def _literal(segment: Segment) -> bytes:
    return segment.data if isinstance(segment, Literal) else bytes(segment.nbytes)


def _unaccounted(start: int, end: int) -> NotSplittable:
    return NotSplittable(
        f"bytes {start} to {end} belong to no zip member: the file has several archives, or was patched"
    )


def _entries(data: Content, at: int = 0) -> tuple[list[_Entry], int]:
    """Read the central directory, and return its offset too; all members are before it.

    Args:
        data: The file, or its last bytes.
        at: The offset of the first of these bytes in the file.
    """
    start, size, count = _directory(data, at)
    if start < at:
        raise FormatError("the zip directory is not at its recorded position")
    entries = list(_read_entries(data, start - at, start - at + size))
    if len(entries) != count:
        raise FormatError(f"the zip directory announces {count} members and lists {len(entries)}")
    return entries, start


def _directory(data: Content, offset: int) -> tuple[int, int, int]:
    """Return the offset, the size in bytes and the number of entries of the central directory."""
    base = max(0, data.nbytes - _END.size - _MAX_COMMENT)
    tail = bytes(data[base:])
    at = tail.rfind(b"PK\5\6")
    while at >= 0 and (len(tail) - at < _END.size or at + _END.size + _END.unpack_from(tail, at)[7] != len(tail)):
        at = tail.rfind(b"PK\5\6", 0, at)
    if at < 0:
        raise FormatError("the file does not end with a zip directory; it may be truncated")
    _, disk, first_disk, local_count, count, size, start, _ = _END.unpack_from(tail, at)
    end = base + at
    if end >= _LOCATOR.size and bytes(data[end - _LOCATOR.size : end - _LOCATOR.size + 4]) == b"PK\6\7":
        end, wide = _directory64(data, end - _LOCATOR.size, offset)
        for short, full, mark in zip((count, size, start), wide, (_FULL16, _FULL32, _FULL32), strict=True):
            if short not in (full, mark):
                raise FormatError("the two end records of the zip directory contradict each other")
        count, size, start = wide
    elif disk or first_disk or local_count != count:
        raise FormatError("a zip archive in several parts")
    end += offset
    if start + size != end:
        raise NotSplittable(f"the zip directory is recorded at bytes {start} to {start + size}, but ends at {end}")
    if count > _MAX_ENTRIES:
        raise FormatError(f"a zip archive of {count} members exceeds the limit of {_MAX_ENTRIES}")
    return start, size, count


def _directory64(data: Content, locator: int, offset: int) -> tuple[int, tuple[int, int, int]]:
    _, _, at, disks = _LOCATOR.unpack(data[locator : locator + _LOCATOR.size])
    at -= offset
    if at < 0 or at + _END64.size > locator or bytes(data[at : at + 4]) != b"PK\6\6" or disks > 1:
        raise NotSplittable("the zip64 end record is not at its recorded position")
    _, rest, _, _, disk, first_disk, local_count, count, size, start = _END64.unpack(data[at : at + _END64.size])
    if at + _END64_HEAD + rest != locator:
        raise _unaccounted(at + _END64_HEAD + rest, locator)
    if disk or first_disk or local_count != count:
        raise FormatError("a zip archive in several parts")
    return at, (count, size, start)


def _read_entries(data: Content, at: int, end: int) -> Iterator[_Entry]:
    while at < end:
        if at + _ENTRY.size > end or bytes(data[at : at + 4]) != b"PK\1\2":
            raise FormatError(f"the zip directory is damaged at byte {at}")
        fields = _ENTRY.unpack(data[at : at + _ENTRY.size])
        _, _, _, flags, method, _, _, crc, packed, size, name_size, extra_size, comment_size, *_, header = fields
        raw = bytes(data[at + _ENTRY.size : at + _ENTRY.size + name_size])
        extra_at = at + _ENTRY.size + name_size
        next_at = extra_at + extra_size + comment_size
        if next_at > end:
            raise FormatError(f"the zip directory is damaged at byte {at}")
        name = _decode(raw, flags)
        wide = _zip64(data[extra_at : extra_at + extra_size], (size, packed, header), name)
        yield _Entry(name, raw, flags, method, crc, wide[1], wide[0], wide[2], at)
        at = next_at


def _decode(raw: bytes, flags: int) -> str:
    try:
        return raw.decode("utf-8" if flags & _UTF8 else "cp437")
    except UnicodeDecodeError as error:
        raise FormatError(f"a zip member's name {raw!r} is not UTF-8") from error


def _zip64(extra: memoryview, short: tuple[int, ...], name: str) -> tuple[int, ...]:
    """Replace values that are marked as too large by the 64-bit values in the extra field."""
    wide: list[int] = []
    at = 0
    while at + 4 <= extra.nbytes:
        kind, size = struct.unpack_from("<2H", extra, at)
        if kind == _ZIP64_EXTRA and at + 4 + size <= extra.nbytes:
            wide = list(struct.unpack_from(f"<{size // 8}Q", extra, at + 4))
            break
        at += 4 + size
    values = []
    for value in short:
        if value == _FULL32 and not wide:
            raise FormatError(f"zip member {name!r} lacks its 64-bit sizes")
        values.append(wide.pop(0) if value == _FULL32 else value)
    return tuple(values)


def _member(data: Content, entry: _Entry, limit: int) -> Member:
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
    size, packed = _zip64(data[name_at + name_size : start], (size, packed), entry.name)
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
        raise _unaccounted(end, limit)
    return Member(entry.name, start, entry.packed, tuple(checksums), bool(entry.method))
