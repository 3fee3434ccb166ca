"""Find the members of a tar archive (POSIX.1-2001, with the extensions of GNU) without reading them.

Each member takes at least 512 bytes of the file, and less than that in memory.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from git_theta_ext.errors import FormatError
from git_theta_ext.interfaces import NotSplittable

if TYPE_CHECKING:
    from collections.abc import Iterator

    from git_theta_ext.interfaces import Content

BLOCK = 512
_MAGIC = slice(257, 262)
_VERSION = slice(262, 263)
_NAME, _PREFIX = slice(100), slice(345, 500)
_SIZE = slice(124, 136)
_CHECKSUM = slice(148, 156)
_KIND = 156
_REGULAR, _EMPTY = (0, *b"07"), b"123456"  # files; links, devices, directories and pipes, which have no content
_EXTRA = b"LKxg"  # headers about the next member: a long name, a long link, or records; or about all
_LONG_NAME, _, _PAX, _ = _EXTRA
_MAX_EXTRA = 1 << 20
_BINARY = 0x80


class TarMember(NamedTuple):
    """A file in the archive: its name, and the offset and size of its content."""

    name: str
    start: int
    size: int


def is_tar(data: Content) -> bool:
    """Return whether the file begins with the header of a member."""
    return data.nbytes >= BLOCK and bytes(data[_MAGIC]) == b"ustar"


def members(data: Content) -> Iterator[TarMember]:
    """Yield the files in an archive.

    Raises:
        FormatError: The archive is damaged.
        NotSplittable: It has a member of a kind that only few programs write.
    """
    at = 0
    name: str | None = None
    size: int | None = None
    while at < data.nbytes:
        header = bytes(data[at : at + BLOCK])
        if not any(header):  # the end
            return
        _check(header, at)
        kind, start = header[_KIND], at + BLOCK
        end = start + _stored(kind, _number(header[_SIZE]), size)
        if end > data.nbytes:
            raise FormatError(f"the tar member at byte {at} ends after the file; the file may be truncated")
        if kind in _EXTRA:
            if end - start > _MAX_EXTRA:
                raise FormatError(f"the tar header at byte {at} has {end - start} bytes, more than {_MAX_EXTRA}")
            name, size = _extra(kind, bytes(data[start:end]), name)
        elif kind in _REGULAR:
            yield TarMember(_name(header) if name is None else name, start, end - start)
            name = size = None
        elif kind in _EMPTY:
            name = size = None
        else:
            raise NotSplittable(f"the tar member at byte {at} is of the kind {chr(kind)!r}")
        at = end + -(end - start) % BLOCK


def with_size(header: bytes, size: int) -> bytes | None:
    """Return the header of a file for another size of it; None if it has no room for the size."""
    width = _SIZE.stop - _SIZE.start - 1
    digits = f"{size:0{width}o}".encode()
    if len(digits) > width:
        return None
    made = header[: _SIZE.start] + digits + header[_SIZE.stop - 1 : _CHECKSUM.start]
    rest = header[_CHECKSUM.stop :]
    return made + f"{sum(made) + sum(b' ' * 8) + sum(rest):06o}\0 ".encode() + rest


def _stored(kind: int, size: int, wide: int | None) -> int:
    """Return how many bytes follow a header; ``wide`` is a size that a header before it gives."""
    if kind in _EMPTY:
        return 0
    return size if wide is None or kind in _EXTRA else wide


def _extra(kind: int, data: bytes, name: str | None) -> tuple[str | None, int | None]:
    """Return the name and the size that a header gives to the member after it."""
    if kind == _LONG_NAME:
        return _text(data), None
    return _pax(data, name) if kind == _PAX else (name, None)


def _check(header: bytes, at: int) -> None:
    if len(header) < BLOCK or not header[_MAGIC] == b"ustar":
        raise FormatError(f"byte {at} is not the header of a tar member; the file may be truncated")
    blank = header[: _CHECKSUM.start] + b" " * 8 + header[_CHECKSUM.stop :]
    if sum(blank) != _number(header[_CHECKSUM]):
        raise FormatError(f"the tar header at byte {at} is damaged")


def _number(field: bytes) -> int:
    if field[0] & _BINARY:
        return int.from_bytes(bytes([field[0] & 0x7F]) + field[1:], "big")
    digits = field.strip(b" \0")
    if not all(0x30 <= digit <= 0x37 for digit in digits):  # noqa: PLR2004 - "0" and "7"
        raise FormatError(f"{field!r} in a tar header is not a number")
    return int(digits or b"0", 8)


def _name(header: bytes) -> str:
    name = _text(header[_NAME])
    prefix = _text(header[_PREFIX]) if header[_VERSION] == b"\0" else ""  # GNU has other fields there
    return f"{prefix}/{name}" if prefix else name


def _text(field: bytes) -> str:
    return field.partition(b"\0")[0].decode(errors="replace")


def _pax(data: bytes, name: str | None) -> tuple[str | None, int | None]:
    """Return the name and the size in the records ``length key=value``."""
    size: int | None = None
    at = 0
    while at < len(data):
        digits, _, _ = data[at : at + 20].partition(b" ")
        if not digits.isdigit() or not len(digits) + 1 < int(digits) <= len(data) - at:
            raise FormatError("a tar header has a damaged record")
        key, _, value = data[at + len(digits) + 1 : at + int(digits) - 1].partition(b"=")
        if key == b"path":
            name = value.decode(errors="replace")
        elif key == b"size":
            if not value.isdigit() or len(value) > 18:  # noqa: PLR2004 - of a number of 64 bits
                raise FormatError("a tar header has a damaged size")
            size = int(value)
        at += int(digits)
    return name, size
