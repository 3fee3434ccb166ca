"""What requests upload: bytes in memory, or a part of a file."""

from __future__ import annotations

import io
from typing import TYPE_CHECKING, BinaryIO

if TYPE_CHECKING:
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
    """The bytes of a file from ``start`` up to ``end``, read as they are sent."""

    def __init__(self, path: Path, start: int, end: int) -> None:
        self._file: BinaryIO = path.open("rb")
        self._start = start
        self._size = end - start
        self._left = 0

    def read(self, size: int = -1) -> bytes:
        """Return the next bytes."""
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
