"""What requests upload: bytes in memory, or a part of a file."""

from __future__ import annotations

import io
from typing import TYPE_CHECKING, BinaryIO

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path


class Memory:
    """Bytes in memory."""

    def __init__(self, data: bytes) -> None:
        self._data = data
        self._file = io.BytesIO(data)

    def read(self, size: int = -1) -> bytes:
        """Return the next bytes."""
        return self._file.read(size)

    def rewind(self) -> int:
        """Go back to the beginning, and return the size in bytes."""
        self._file.seek(0)
        return len(self._data)


class FilePart:
    """The bytes of a file from ``start`` up to ``end``, read as they are sent.

    Args:
        path: The file.
        start: The first byte.
        end: The byte after the last one.
        report: Called with the number of bytes of the file that are read.
    """

    def __init__(self, path: Path, start: int, end: int, report: Callable[[int], None]) -> None:
        self._file: BinaryIO = path.open("rb")
        self._start = start
        self._size = end - start
        self._left = 0
        self._report = report

    def read(self, size: int = -1) -> bytes:
        """Return the next bytes."""
        self._report(self._start + self._size - self._left)  # the bytes before these are sent
        data = self._file.read(self._left if size < 0 else min(size, self._left))
        self._left -= len(data)
        return data

    def rewind(self) -> int:
        """Go back to the beginning, and return the size in bytes."""
        self._file.seek(self._start)
        self._left = self._size
        return self._size

    def close(self) -> None:
        """Close the file."""
        self._file.close()
