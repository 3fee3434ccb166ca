"""What a client of SFTP requests. Paths are bytes, and relative ones start at the user's home directory."""

from __future__ import annotations

from typing import TYPE_CHECKING

from git_theta_ext.protocol.sftp.packets import (
    FREE_SPACE,
    HARD_LINK,
    LIMITS,
    SYNC,
    VERSION,
    Attributes,
    Kind,
    string,
    u32,
    u64,
)
from git_theta_ext.records import dataclass

if TYPE_CHECKING:
    from typing_extensions import Buffer

_READ = 0x01
_WRITE_NEW = 0x02 | 0x08 | 0x20  # write, create, fail if it exists
_NOTHING = Attributes()


@dataclass(frozen=True, slots=True)
class Request:
    """A request without its number.

    Attributes:
        kind: The type of its packet.
        fields: Its fields.
        content: What follows them. It is not copied.
    """

    kind: Kind
    fields: bytes
    content: Buffer = b""

    def packet(self, number: int) -> list[Buffer]:
        """Return the bytes to send, in pieces."""
        content = memoryview(self.content).cast("B")
        head = u32(1 + 4 + len(self.fields) + len(content)) + bytes([self.kind]) + u32(number) + self.fields
        return [head, content] if content else [head]


HELLO = u32(5) + bytes([Kind.INIT]) + u32(VERSION)
"""The first bytes of a client."""


def open_to_read(path: bytes) -> Request:
    """Open a file, or on most servers a directory, for reading."""
    return Request(Kind.OPEN, string(path) + u32(_READ) + _NOTHING.encode())


def open_new(path: bytes, mode: int) -> Request:
    """Create a file of some permissions and open it for writing, unless the name exists."""
    return Request(Kind.OPEN, string(path) + u32(_WRITE_NEW) + Attributes(mode=mode).encode())


def close(handle: bytes) -> Request:
    """Close a file or directory."""
    return Request(Kind.CLOSE, string(handle))


def read(handle: bytes, offset: int, count: int) -> Request:
    """Read at most ``count`` bytes."""
    return Request(Kind.READ, string(handle) + u64(offset) + u32(count))


def write(handle: bytes, offset: int, content: Buffer) -> Request:
    """Write some bytes."""
    return Request(Kind.WRITE, string(handle) + u64(offset) + u32(memoryview(content).nbytes), content)


def status_of(path: bytes) -> Request:
    """Get the attributes of a file, without following a symbolic link."""
    return Request(Kind.LSTAT, string(path))


def change(path: bytes, attributes: Attributes) -> Request:
    """Change attributes of a file or directory."""
    return Request(Kind.SETSTAT, string(path) + attributes.encode())


def change_open(handle: bytes, attributes: Attributes) -> Request:
    """Change attributes of an open file."""
    return Request(Kind.FSETSTAT, string(handle) + attributes.encode())


def open_directory(path: bytes) -> Request:
    """Open a directory for listing."""
    return Request(Kind.OPENDIR, string(path))


def read_directory(handle: bytes) -> Request:
    """Get the next entries of a directory."""
    return Request(Kind.READDIR, string(handle))


def remove(path: bytes) -> Request:
    """Remove a file."""
    return Request(Kind.REMOVE, string(path))


def make_directory(path: bytes, mode: int) -> Request:
    """Make a directory of some permissions."""
    return Request(Kind.MKDIR, string(path) + Attributes(mode=mode).encode())


def rename(old: bytes, new: bytes) -> Request:
    """Rename a file. The standard has it fail if the new name exists."""
    return Request(Kind.RENAME, string(old) + string(new))


def hard_link(old: bytes, new: bytes) -> Request:
    """Give a file another name; fails if the name exists."""
    return Request(Kind.EXTENDED, string(HARD_LINK) + string(old) + string(new))


def sync(handle: bytes) -> Request:
    """Make an open file durable."""
    return Request(Kind.EXTENDED, string(SYNC) + string(handle))


def limits() -> Request:
    """Get the sizes that the server takes."""
    return Request(Kind.EXTENDED, string(LIMITS))


def free_space(path: bytes) -> Request:
    """Get the free space of a file system."""
    return Request(Kind.EXTENDED, string(FREE_SPACE) + string(path))
