"""Find the trees of a model in UBJSON, without building its values.

See https://ubjson.org. XGBoost writes lengths as 64-bit integers, objects without a count, and lists with one.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from git_theta_ext.errors import FormatError
from git_theta_ext.interfaces import NotSplittable

if TYPE_CHECKING:
    from collections.abc import Iterator

_WIDTHS = {b"i": 1, b"U": 1, b"I": 2, b"l": 4, b"L": 8, b"d": 4, b"D": 8, b"C": 1, b"T": 0, b"F": 0, b"Z": 0}
_INTEGERS = b"iUIlL"
_DEEPEST = 16
_MOST_VALUES = 1 << 22
_TREES = b"trees"


def trees(data: memoryview) -> Iterator[tuple[int, int]]:
    """Yield where each tree begins and ends: each object in the first list with the name ``trees``.

    Raises:
        FormatError: The file is damaged.
        NotSplittable: It has too many values, or they are nested too deeply.
    """
    reader = _Reader(data)
    reader.expect(b"{")
    count = reader.find(_TREES)
    for _ in range(count):
        start = reader.at
        reader.skip(0)
        yield start, reader.at


class _Reader:
    """Walks through the values of a file."""

    def __init__(self, data: memoryview) -> None:
        self.at = 0
        self._data = data
        self._left = _MOST_VALUES

    def expect(self, marker: bytes) -> None:
        """Pass a marker."""
        if self._marker() != marker:
            raise FormatError(f"byte {self.at - 1} is not {marker!r}")

    def find(self, name: bytes) -> int:
        """Go to the first value of a list that is in an object under this name; return the number of values.

        Objects are entered, and lists passed. It is zero if there is no such list.
        """
        depth = 1
        while depth:
            if self._peek() == b"}":
                self.at += 1
                depth -= 1
                continue
            key = self._text()
            marker = self._peek()
            if key == name and marker == b"[":
                self.at += 1
                kind, count = self._head()
                if kind:
                    raise FormatError(f"the list at byte {self.at} does not have objects")
                return count
            if marker == b"{":
                self.at += 1
                depth += 1
            else:
                self.skip(0)
        return 0

    def skip(self, depth: int) -> None:
        """Pass a value."""
        self._left -= 1
        if self._left < 0 or depth > _DEEPEST:
            raise NotSplittable("it has too many values, or they are nested too deeply")
        marker = self._marker()
        if marker == b"{":
            while self._peek() != b"}":
                self._text()
                self.skip(depth + 1)
            self.at += 1
        elif marker == b"[":
            kind, count = self._head()
            if kind:
                self._pass(count * self._width(kind))
            else:
                for _ in range(count):
                    self.skip(depth + 1)
        elif marker == b"S":
            self._pass(self._length())
        else:
            self._pass(self._width(marker))

    def _head(self) -> tuple[bytes, int]:
        """Return the type of a list's values, empty if each has its own, and how many there are."""
        kind = b""
        if self._peek() == b"$":
            self.at += 1
            kind = self._marker()
        self.expect(b"#")
        return kind, self._length()

    def _text(self) -> bytes:
        nbytes = self._length()
        start = self.at
        self._pass(nbytes)
        return bytes(self._data[start : self.at])

    def _length(self) -> int:
        marker = self._marker()
        if marker not in _INTEGERS:
            raise FormatError(f"byte {self.at - 1} does not begin a length")
        start = self.at
        self._pass(_WIDTHS[marker])
        length = int.from_bytes(self._data[start : self.at], "big", signed=marker != b"U")
        if length < 0:
            raise FormatError(f"a negative length at byte {start}")
        return length

    def _width(self, marker: bytes) -> int:
        if marker not in _WIDTHS:
            raise FormatError(f"{marker!r} before byte {self.at} is not a type")
        return _WIDTHS[marker]

    def _peek(self) -> bytes:
        return bytes(self._data[self.at : self.at + 1])

    def _marker(self) -> bytes:
        self._pass(1)
        return bytes(self._data[self.at - 1 : self.at])

    def _pass(self, nbytes: int) -> None:
        if nbytes > len(self._data) - self.at:
            raise FormatError(f"{nbytes} bytes at {self.at} of {len(self._data)}; the file may be truncated")
        self.at += nbytes
