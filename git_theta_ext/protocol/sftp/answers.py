"""What a server of SFTP answers."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from git_theta_ext.errors import ProtocolError
from git_theta_ext.protocol.sftp.packets import VERSION, Attributes, Fields, Kind
from git_theta_ext.records import dataclass

if TYPE_CHECKING:
    from collections.abc import Mapping

MAX_HANDLE: Final = 256
"""Maximum size of a handle in bytes."""

_SMALLEST_NAME = 12
_LARGEST_MESSAGE = 1 << 10


@dataclass(frozen=True, slots=True)
class Status:
    """Whether a request succeeded.

    Attributes:
        code: A ``Code``, or a number that the standard does not have.
        message: The server's words.
    """

    code: int
    message: str


@dataclass(frozen=True, slots=True)
class Handle:
    """An open file or directory."""

    value: bytes


@dataclass(frozen=True, slots=True)
class Data:
    """Content of a file, or the fields that an extension answers."""

    value: bytes


@dataclass(frozen=True, slots=True)
class Names:
    """Some entries of a directory, with their attributes."""

    entries: tuple[tuple[bytes, Attributes], ...]


Answer = Status | Handle | Data | Names | Attributes


@dataclass(frozen=True, slots=True)
class Limits:
    """The sizes that a server takes, in bytes; 0 is not known.

    Attributes:
        packet: Of a packet.
        read: Of the content that a request reads.
        write: Of the content that a request writes.
    """

    packet: int = 0
    read: int = 0
    write: int = 0


def read_version(packet: bytes) -> Mapping[bytes, bytes]:
    """Parse the first packet of a server, and return the version of each of its extensions, by name.

    Raises:
        ProtocolError: It is something else, or of another version of the protocol.
    """
    fields = Fields(packet)
    if (kind := fields.u8()) != Kind.VERSION:
        raise ProtocolError(f"the SFTP server begins with a packet of type {kind}")
    if (version := fields.u32()) != VERSION:
        raise ProtocolError(f"the SFTP server has version {version} of the protocol instead of {VERSION}")
    extensions = {}
    while fields.left:
        name = fields.string()
        extensions[name] = fields.string()
    return extensions


def read_answer(packet: bytes) -> tuple[int, Answer]:
    """Parse an answer, and return it after the number of its request.

    Raises:
        ProtocolError: It is not a valid answer.
    """
    fields = Fields(packet)
    kind, number = fields.u8(), fields.u32()
    if kind == Kind.STATUS:
        code = fields.u32()
        message = fields.string() if fields.left else b""  # old servers send none
        return number, Status(code, message[:_LARGEST_MESSAGE].decode(errors="replace"))
    answer = _content(kind, fields)
    fields.end()
    return number, answer


def read_limits(answer: Data) -> Limits:
    """Parse the answer to a request for limits.

    Raises:
        ProtocolError: It is too short.
    """
    fields = Fields(answer.value)
    return Limits(fields.u64(), fields.u64(), fields.u64())


def read_free_space(answer: Data) -> int:
    """Parse the answer to a request for free space, and return the number of bytes that users can still write.

    Raises:
        ProtocolError: It is too short.
    """
    fields = Fields(answer.value)
    _, fragment, _, _, available = (fields.u64() for _ in range(5))
    return fragment * available


def _content(kind: int, fields: Fields) -> Answer:
    if kind == Kind.HANDLE:
        handle = fields.string()
        if len(handle) > MAX_HANDLE:
            raise ProtocolError(f"an SFTP handle of {len(handle)} bytes exceeds the limit of {MAX_HANDLE}")
        return Handle(handle)
    if kind == Kind.DATA:
        return Data(fields.string())
    if kind == Kind.NAME:
        return Names(tuple(_name(fields) for _ in range(fields.count(_SMALLEST_NAME))))
    if kind == Kind.ATTRS:
        return fields.attributes()
    if kind == Kind.EXTENDED_REPLY:
        return Data(bytes(fields.take(fields.left)))
    raise ProtocolError(f"an SFTP packet of type {kind} is not an answer")


def _name(fields: Fields) -> tuple[bytes, Attributes]:
    name = fields.string()
    fields.take(fields.u32())  # a line as of "ls -l"
    return name, fields.attributes()
