"""The places of an HDF5 file: its superblock, addresses and object headers.

See https://support.hdfgroup.org/documentation/hdf5/latest/_f_m_t3.html, whose names are used here.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from git_theta_ext.errors import FormatError
from git_theta_ext.interfaces import NotSplittable

if TYPE_CHECKING:
    from collections.abc import Iterator

    from git_theta_ext.interfaces import Content

MAGIC = b"\x89HDF\r\n\x1a\n"

DATASPACE, LINK_INFO, DATATYPE, LINK, LAYOUT, FILTERS, CONTINUATION, SYMBOL_TABLE = 1, 2, 3, 6, 8, 11, 16, 17
"""The types of messages that are read."""

_UNKNOWN = 4
"""The first version of the superblock that is not known."""
_LEAST_ROOT = 24
_SHARED = 2
_SIZES = (2, 4, 8)
_MOST_PARTS = 1 << 20
_MOST_NODE = 1 << 24
_MESSAGE, _HEADER = 8, 16
_TIMES, _PHASES, _ORDERED = 0x20, 0x10, 0x04


def base_of(data: Content) -> int:
    """Return what a file says that its addresses are relative to; -1 if it does not say so."""
    version = data[len(MAGIC)] if data.nbytes > len(MAGIC) else _UNKNOWN
    if version >= _UNKNOWN or data.nbytes < 2 * _LEAST_ROOT:
        return -1
    start, size = ((24, data[13]), (28, data[13]), (12, data[9]), (12, data[9]))[version]
    return int.from_bytes(data[start : start + size], "little") if size in _SIZES else -1


@dataclass(frozen=True, slots=True)
class Message:
    """A message of an object header.

    Attributes:
        kind: Its type.
        start: Offset of its content.
        end: Offset of the first byte after it.
        shared: Whether it only says where the message is.
    """

    kind: int
    start: int
    end: int
    shared: bool


class File:
    """Reads integers, addresses and headers of an HDF5 file.

    Args:
        data: The file from its first byte on.
        base: What the file says that its addresses are relative to.

    Attributes:
        data: The file.
        offset_size: Size in bytes of an address.
        length_size: Size in bytes of a length.
        root: Address of the root group's object header.

    Raises:
        FormatError: Every method raises it if a place is outside of the file or does not have what belongs there.
        NotSplittable: The version is unknown, or the file has more than a million parts.
    """

    def __init__(self, data: Content, base: int = 0) -> None:
        self.data = data
        self._left = _MOST_PARTS
        self._seen: set[int] = set()
        version = self.number(len(MAGIC), 1)
        if version >= _UNKNOWN:
            raise NotSplittable(f"its superblock has version {version}, which is unknown")
        old = version < 2  # noqa: PLR2004 - the version whose root is an object header
        self.offset_size, self.length_size = (self.number(at, 1) for at in ((13, 14) if old else (9, 10)))
        if self.offset_size not in _SIZES or self.length_size not in _SIZES:
            raise FormatError(f"addresses of {self.offset_size} bytes and lengths of {self.length_size}")
        start = (24, 28)[version] if old else 12
        if self.number(start, self.offset_size) != base:
            raise NotSplittable("its addresses are not relative to its first byte")
        self.root = self.address(start + (5 if old else 3) * self.offset_size) or 0

    def number(self, at: int, size: int) -> int:
        """Return the unsigned integer of a size in bytes at an offset."""
        return int.from_bytes(self.read(at, at + size), "little")

    def address(self, at: int) -> int | None:
        """Return the address that is written at an offset; None if nothing is there."""
        value = self.number(at, self.offset_size)
        return None if value + 1 == 1 << 8 * self.offset_size else value

    def length(self, at: int) -> int:
        """Return the length that is written at an offset."""
        return self.number(at, self.length_size)

    def read(self, start: int, end: int) -> memoryview:
        """Return a range of the file."""
        if not 0 <= start <= end <= self.data.nbytes:
            raise FormatError(f"bytes {start} to {end} of {self.data.nbytes} are needed; the file may be truncated")
        if end - start > _MOST_NODE:
            raise FormatError(f"{end - start} bytes at {start} exceed the limit of {_MOST_NODE}")
        return self.data[start:end]

    def visit(self, at: int) -> int:
        """Return an address that was not visited before, so that no chain of addresses is endless."""
        self.count()
        if at in self._seen:
            raise FormatError(f"what is at byte {at} belongs to two places")
        self._seen.add(at)
        return at

    def visited(self, at: int) -> bool:
        """Return whether an address was visited."""
        return at in self._seen

    def count(self) -> None:
        """Count a part of the file."""
        self._left -= 1
        if self._left < 0:
            raise NotSplittable(f"it has more than {_MOST_PARTS} parts")

    def expect(self, at: int, signature: bytes) -> None:
        """Check that a signature is at an offset."""
        if bytes(self.read(at, at + len(signature))) != signature:
            raise FormatError(f"byte {at} does not begin with {signature.decode()}")

    def messages(self, header: int) -> Iterator[Message]:
        """Yield the messages of the object header at an address that was not visited before."""
        return self.messages_again(self.visit(header))

    def messages_again(self, header: int) -> Iterator[Message]:
        """Yield the messages of the object header at an address."""
        if bytes(self.read(header, header + 4)) == b"OHDR":
            yield from self._new_messages(header)
        else:
            yield from self._old_messages(header)

    def _old_messages(self, header: int) -> Iterator[Message]:
        if self.number(header, 1) != 1:
            raise FormatError(f"no object header at byte {header}")
        left = self.number(header + 2, 2)
        blocks = [(header + _HEADER, self.number(header + 8, 4))]
        while blocks:
            at, size = blocks.pop(0)
            end = at + size
            while at + _MESSAGE <= end and left:
                left -= 1
                self.count()
                start = at + _MESSAGE
                message = Message(
                    self.number(at, 2),
                    start,
                    start + self.number(at + 2, 2),
                    bool(self.number(at + 4, 1) & _SHARED),
                )
                if message.kind == CONTINUATION:
                    blocks.append(self._continuation(message))
                yield message
                at = message.end

    def _new_messages(self, header: int) -> Iterator[Message]:
        flags = self.number(header + 5, 1)
        at = header + 6 + (16 if flags & _TIMES else 0) + (4 if flags & _PHASES else 0)
        width = 1 << (flags & 3)
        head = 4 + (2 if flags & _ORDERED else 0)
        blocks = [(at + width, self.number(at, width))]
        while blocks:
            at, size = blocks.pop(0)
            end = at + size
            while at + head <= end:
                self.count()
                start = at + head
                message = Message(
                    self.number(at, 1),
                    start,
                    start + self.number(at + 1, 2),
                    bool(self.number(at + 3, 1) & _SHARED),
                )
                if message.kind == CONTINUATION:
                    place, length = self._continuation(message)
                    self.expect(place, b"OCHK")
                    blocks.append((place + 4, length - 8))
                yield message
                at = message.end

    def _continuation(self, message: Message) -> tuple[int, int]:
        place = self.address(message.start)
        if place is None:
            raise FormatError(f"the object header continues nowhere at byte {message.start}")
        return self.visit(place), self.length(message.start + self.offset_size)
