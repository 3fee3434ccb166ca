"""The packets of SFTP and their fields, which both sides read and write."""

from __future__ import annotations

import struct
from enum import IntEnum
from typing import TYPE_CHECKING, Final

from git_theta_ext.errors import ProtocolError
from git_theta_ext.records import dataclass

if TYPE_CHECKING:
    from typing_extensions import Buffer

VERSION: Final = 3
MAX_PACKET: Final = 1 << 18
"""Maximum size of a packet in bytes, without its length. OpenSSH neither sends nor takes more."""

HARD_LINK: Final = b"hardlink@openssh.com"
SYNC: Final = b"fsync@openssh.com"
LIMITS: Final = b"limits@openssh.com"
FREE_SPACE: Final = b"statvfs@openssh.com"

_U32 = struct.Struct(">I")
_U64 = struct.Struct(">Q")
_SIZE, _OWNER, _MODE, _TIMES, _MORE = 0x01, 0x02, 0x04, 0x08, 0x80000000
_KNOWN = _SIZE | _OWNER | _MODE | _TIMES | _MORE


class Kind(IntEnum):
    """The types of packets."""

    INIT = 1
    VERSION = 2
    OPEN = 3
    CLOSE = 4
    READ = 5
    WRITE = 6
    LSTAT = 7
    SETSTAT = 9
    FSETSTAT = 10
    OPENDIR = 11
    READDIR = 12
    REMOVE = 13
    MKDIR = 14
    RENAME = 18
    STATUS = 101
    HANDLE = 102
    DATA = 103
    NAME = 104
    ATTRS = 105
    EXTENDED = 200
    EXTENDED_REPLY = 201


class Code(IntEnum):
    """The codes of a status."""

    OK = 0
    END_OF_FILE = 1
    NO_SUCH_FILE = 2
    PERMISSION_DENIED = 3
    FAILURE = 4
    BAD_MESSAGE = 5
    NO_CONNECTION = 6
    CONNECTION_LOST = 7
    UNSUPPORTED = 8


@dataclass(frozen=True, slots=True)
class Attributes:
    """What is known of a file; None is not known, or not to be changed.

    Attributes:
        size: In bytes.
        mode: Type and permissions, as ``st_mode``.
        mtime: Time of the last change, in seconds since 1970. Where it is set, so is the time of the last access.
    """

    size: int | None = None
    mode: int | None = None
    mtime: int | None = None

    def encode(self) -> bytes:
        """Return the attributes as fields of a packet."""
        flags, fields = 0, b""
        if self.size is not None:
            flags, fields = flags | _SIZE, fields + u64(self.size)
        if self.mode is not None:
            flags, fields = flags | _MODE, fields + u32(self.mode)
        if self.mtime is not None:
            flags, fields = flags | _TIMES, fields + u32(self.mtime) * 2
        return u32(flags) + fields


def u32(value: int) -> bytes:
    """Return an integer of 32 bits as a field."""
    return _U32.pack(value)


def u64(value: int) -> bytes:
    """Return an integer of 64 bits as a field."""
    return _U64.pack(value)


def string(value: bytes) -> bytes:
    """Return a string as a field."""
    return _U32.pack(len(value)) + value


class Fields:
    """Reads the fields of a packet. Lengths are checked before anything is allocated.

    Every method raises ``ProtocolError`` if the packet ends too early.

    Args:
        packet: A packet without its length.
    """

    def __init__(self, packet: Buffer) -> None:
        self._packet = memoryview(packet).cast("B")
        self._at = 0

    @property
    def left(self) -> int:
        """Number of bytes that were not read yet."""
        return len(self._packet) - self._at

    def take(self, count: int) -> memoryview:
        """Return the next bytes."""
        if count > self.left:
            raise ProtocolError(f"an SFTP packet of {len(self._packet)} bytes ends too early")
        self._at += count
        return self._packet[self._at - count : self._at]

    def u8(self) -> int:
        """Return the next byte."""
        return self.take(1)[0]

    def u32(self) -> int:
        """Return the next integer of 32 bits."""
        return int(_U32.unpack(self.take(4))[0])

    def u64(self) -> int:
        """Return the next integer of 64 bits."""
        return int(_U64.unpack(self.take(8))[0])

    def string(self) -> bytes:
        """Return the next string."""
        return bytes(self.take(self.u32()))

    def count(self, nbytes: int) -> int:
        """Return the number of items that follow, each of which has at least ``nbytes`` bytes."""
        count = self.u32()
        if count * nbytes > self.left:
            raise ProtocolError(f"an SFTP packet of {len(self._packet)} bytes cannot have {count} items")
        return count

    def attributes(self) -> Attributes:
        """Return the next attributes."""
        flags = self.u32()
        if flags & ~_KNOWN:
            raise ProtocolError(f"unknown SFTP attributes {flags:#x}")
        size = self.u64() if flags & _SIZE else None
        if flags & _OWNER:
            self.take(8)
        mode = self.u32() if flags & _MODE else None
        mtime = None
        if flags & _TIMES:
            self.take(4)
            mtime = self.u32()
        for _ in range(self.count(8) if flags & _MORE else 0):
            self.take(self.u32())
            self.take(self.u32())
        return Attributes(size, mode, mtime)

    def end(self) -> None:
        """Raise ``ProtocolError`` if the packet has more fields."""
        if self.left:
            raise ProtocolError(f"an SFTP packet has {self.left} bytes too many")


class Framer:
    """Splits a stream into packets without their lengths."""

    def __init__(self) -> None:
        self._buffer = bytearray()

    @property
    def idle(self) -> bool:
        """Whether the stream may end here: no packet is incomplete."""
        return not self._buffer

    def feed(self, data: Buffer) -> list[bytes]:
        """Process the next bytes of the stream.

        Raises:
            ProtocolError: A packet is empty or larger than ``MAX_PACKET``.
        """
        self._buffer += data
        packets, at = [], 0
        with memoryview(self._buffer) as view:
            while len(view) - at >= _U32.size:
                length = int(_U32.unpack_from(view, at)[0])
                if not 0 < length <= MAX_PACKET:
                    raise ProtocolError(f"not an SFTP packet: its length is given as {length} bytes")
                end = at + _U32.size + length
                if end > len(view):
                    break
                packets.append(bytes(view[at + _U32.size : end]))
                at = end
        del self._buffer[:at]
        return packets
