"""Read the central directory of a zip archive. ``_zip`` checks it against the members."""

from __future__ import annotations

import struct
from dataclasses import dataclass
from typing import TYPE_CHECKING

from git_theta_ext.errors import FormatError
from git_theta_ext.interfaces import NotSplittable

if TYPE_CHECKING:
    from collections.abc import Iterator

    from git_theta_ext.interfaces import Content

_END = struct.Struct("<4s4H2LH")
_END64 = struct.Struct("<4sQ2H2L4Q")
_END64_HEAD = 12  # bytes before those that its size field counts
_LOCATOR = struct.Struct("<4sLQL")
_ENTRY = struct.Struct("<4s6H3L5H2L")
_MAX_COMMENT = 0xFFFF
_MAX_ENTRIES = 1 << 20
_FULL16 = 0xFFFF
_FULL32 = 0xFFFFFFFF
_UTF8 = 0x800
_ZIP64_EXTRA = 1


@dataclass(frozen=True, slots=True)
class Entry:
    """A member as the directory lists it; ``at`` is where it does.

    ``packed`` is its size in the archive, and ``header`` where its own header is.
    """

    name: str
    raw_name: bytes
    flags: int
    method: int
    crc: int
    packed: int
    size: int
    header: int
    at: int


def unaccounted(start: int, end: int) -> NotSplittable:
    """Return the error about bytes that are in no member."""
    return NotSplittable(
        f"bytes {start} to {end} belong to no zip member: the file has several archives, or was patched"
    )


def read_entries(data: Content, at: int = 0) -> tuple[list[Entry], int]:
    """Read the central directory, and return its offset too; all members are before it.

    Args:
        data: The file, or its last bytes.
        at: The offset of the first of these bytes in the file.

    Raises:
        FormatError: The directory is damaged.
        NotSplittable: It is not where the file says, as in several archives that follow each other.
    """
    start, size, count = _directory(data, at)
    if start < at:
        raise FormatError("the zip directory is not at its recorded position")
    entries = list(_listed(data, start - at, start - at + size))
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
        raise unaccounted(at + _END64_HEAD + rest, locator)
    if disk or first_disk or local_count != count:
        raise FormatError("a zip archive in several parts")
    return at, (count, size, start)


def _listed(data: Content, at: int, end: int) -> Iterator[Entry]:
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
        wide = read_zip64(data[extra_at : extra_at + extra_size], (size, packed, header), name)
        yield Entry(name, raw, flags, method, crc, wide[1], wide[0], wide[2], at)
        at = next_at


def _decode(raw: bytes, flags: int) -> str:
    try:
        return raw.decode("utf-8" if flags & _UTF8 else "cp437")
    except UnicodeDecodeError as error:
        raise FormatError(f"a zip member's name {raw!r} is not UTF-8") from error


def read_zip64(extra: memoryview, short: tuple[int, ...], name: str) -> tuple[int, ...]:
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
