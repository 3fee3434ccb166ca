"""Hold compressed bytes until it is known where they belong, a few in memory, and many in a temporary file."""

from __future__ import annotations

import zlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from git_theta_ext.interfaces import Content, Target

_PIECE = 1 << 18
_HELD = 1 << 20


class Spool:
    """Bytes that are collected.

    Args:
        pieces: The bytes.
        target: The file that they are for.
    """

    def __init__(self, pieces: Iterable[bytes], target: Target) -> None:
        self._held = bytearray()
        self._file: Target | None = None
        self._written = 0
        for piece in pieces:
            self._held += piece
            if len(self._held) > _HELD:
                self._file = self._file or target.another()
                self._written += write(self._file, self._written, [self._held])
                self._held = bytearray()

    def copy_to(self, target: Target, at: int) -> int:
        """Write the bytes at an offset, and return their number."""
        size = write(target, at, read(self._file)) if self._file is not None else 0
        return size + write(target, at + size, [self._held])


def read(content: Content) -> Iterator[memoryview]:
    """Yield a file in pieces."""
    for start in range(0, content.nbytes, _PIECE):
        yield content[start : start + _PIECE]


def write(target: Target, at: int, pieces: Iterable[bytes | bytearray | memoryview]) -> int:
    """Write pieces at an offset, and return their size."""
    size = 0
    for piece in pieces:
        target.write(at + size, piece)
        size += len(piece)
    return size


def crc32(content: Content) -> int:
    """Return the CRC-32 of a file."""
    value = 0
    for piece in read(content):
        value = zlib.crc32(piece, value)
    return value
