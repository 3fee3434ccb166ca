"""A part of a file as ``pickletools.genops`` reads it, in pieces: a pickle may be followed by gigabytes of tensors."""

from __future__ import annotations

from typing import TYPE_CHECKING

from git_theta_ext.errors import FormatError

if TYPE_CHECKING:
    from git_theta_ext.interfaces import Content

MAX_BYTES = 1 << 26
"""The limit of a pickle in bytes."""
_PIECE = 1 << 16


class PickleStream:
    """A file in which a pickle begins somewhere. It ends after as many bytes as a pickle may have.

    Args:
        data: The whole file.
        start: Where the pickle begins.
        end: Where it ends at the latest; None for the end of the file.
    """

    def __init__(self, data: Content, start: int = 0, end: int | None = None) -> None:
        self._data = data
        self._last = data.nbytes if end is None else end
        self._end = min(self._last, start + MAX_BYTES)
        self._cut = self._end < self._last
        self._next = start  # the first byte that was not read
        self._held = b""
        self._at = 0

    @property
    def nbytes(self) -> int:
        """The number of bytes that remain."""
        return self._end - self.tell()

    @property
    def exceeded(self) -> bool:
        """Whether the pickle was read up to the limit and did not end there."""
        return self._cut and self.tell() == self._end

    def skip(self, size: int) -> None:
        """Skip so many bytes, which do not count for the limit.

        Raises:
            FormatError: The file ends before.
        """
        start = self.tell() + size
        if start > self._last:
            raise FormatError("a pickle ends early; the file may be truncated")
        if self._at + size <= len(self._held):
            self._at += size
        else:
            self._next, self._held, self._at = start, b"", 0
        self._end = min(self._last, self._end + size)
        self._cut = self._end < self._last

    def tell(self) -> int:
        """Return the position in the file."""
        return self._next - len(self._held) + self._at

    def read(self, size: int) -> bytes:
        """Return so many bytes, or what remains."""
        if self._at + size > len(self._held):
            self._hold(size)
        piece = self._held[self._at : self._at + size]
        self._at += len(piece)
        return piece

    def readline(self) -> bytes:
        """Return the bytes up to the next line feed and with it, or what remains."""
        while (found := self._held.find(b"\n", self._at)) < 0 and self._next < self._end:
            self._hold(2 * max(_PIECE, len(self._held) - self._at))  # twice as much, because all of it is copied
        return self.read((found + 1 if found >= 0 else len(self._held)) - self._at)

    def _hold(self, size: int) -> None:
        """Have so many bytes, or what remains, in memory."""
        rest = self._held[self._at :]
        end = min(self._next + max(_PIECE, size - len(rest)), self._end)
        self._held, self._at = rest + bytes(self._data[self._next : end]), 0
        self._next = end
