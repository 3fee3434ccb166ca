"""The pointer of Git LFS: a small text that names an object by its SHA-256 and its size."""

from __future__ import annotations

import re

from git_theta_ext.records import dataclass

MAX_POINTER = 1024
"""Maximum size of a pointer in bytes."""
MAX_SIZE = 1 << 62

_CANONICAL = re.compile(
    rb"version https://git-lfs\.github\.com/spec/v1\noid sha256:([0-9a-f]{64})\nsize (0|[1-9][0-9]{0,18})\n"
)


@dataclass(frozen=True)
class Pointer:
    """An object of an LFS server.

    Attributes:
        oid: SHA-256 of its bytes, in hexadecimal digits.
        size: Its size in bytes.
    """

    oid: str
    size: int

    def text(self) -> bytes:
        """Return the canonical text. Some servers keep only objects that a blob with exactly these bytes names."""
        return f"version https://git-lfs.github.com/spec/v1\noid sha256:{self.oid}\nsize {self.size}\n".encode()


def parse_pointer(data: bytes) -> Pointer | None:
    """Return the object that a canonical pointer names, or None for other bytes."""
    match = _CANONICAL.fullmatch(data) if len(data) <= MAX_POINTER else None
    if match is None or int(match[2]) > MAX_SIZE:
        return None
    return Pointer(match[1].decode(), int(match[2]))
