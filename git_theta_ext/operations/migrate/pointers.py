"""Pointers of Git LFS: the text that git holds in place of a file; see docs/spec.md of git-lfs."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

LONGEST = 1024
"""Bytes; a pointer is shorter."""

_VERSION = rb"version https://(?:git-lfs\.github\.com|hawser\.github\.com)/spec/v1\n"
_POINTER = re.compile(
    _VERSION + rb"((?:ext-[0-9]-[^\n]*\n)*)oid sha256:([0-9a-f]{64})\nsize (0|[1-9][0-9]{0,17})\n?", re.DOTALL
)


@dataclass(frozen=True, order=True)
class Pointer:
    """A file in Git LFS.

    Attributes:
        sha256: Of its content.
        nbytes: Its size.
    """

    sha256: str
    nbytes: int

    def to_bytes(self) -> bytes:
        """Return the canonical text."""
        version = "version https://git-lfs.github.com/spec/v1"
        return f"{version}\noid sha256:{self.sha256}\nsize {self.nbytes}\n".encode()

    def path(self, storage: Path) -> Path:
        """Return where the content is in a directory of Git LFS."""
        return storage / "objects" / self.sha256[:2] / self.sha256[2:4] / self.sha256


def parse_pointer(content: bytes) -> Pointer | None:
    """Return the pointer that a blob is; None if it is another file, or a pointer with extensions.

    Extensions are programs that have changed the content; only they can change it back.
    """
    match = _POINTER.fullmatch(content) if len(content) < LONGEST else None
    if match is None or match[1]:
        return None
    return Pointer(match[2].decode(), int(match[3]))
