"""Walk through MessagePack without building its values.

See https://github.com/msgpack/msgpack/blob/master/spec.md.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from git_theta_ext.errors import FormatError
from git_theta_ext.interfaces import NotSplittable

if TYPE_CHECKING:
    from git_theta_ext.interfaces import Content

MAPPING, ARRAY, TEXT, BINARY, EXTENSION, INTEGER, OTHER = range(7)
"""What a token begins."""

_MOST_TOKENS = 1 << 20
_LONGEST_KEY = 1 << 12
_FIXED_MAPPING, _FIXED_ARRAY, _FIXED_TEXT, _NOTHING, _NEGATIVE = 0x80, 0x90, 0xA0, 0xC0, 0xE0
"""The first byte of short values, which holds their length too, and of small negative integers."""
_INTEGERS = {
    0xCC: (1, False), 0xCD: (2, False), 0xCE: (4, False), 0xCF: (8, False),
    0xD0: (1, True), 0xD1: (2, True), 0xD2: (4, True), 0xD3: (8, True),
}  # fmt: skip
"""The number of bytes of an integer, and whether it is signed."""
_LENGTHS = {
    0xC4: (BINARY, 1), 0xC5: (BINARY, 2), 0xC6: (BINARY, 4), 0xD9: (TEXT, 1), 0xDA: (TEXT, 2), 0xDB: (TEXT, 4),
    0xDC: (ARRAY, 2), 0xDD: (ARRAY, 4), 0xDE: (MAPPING, 2), 0xDF: (MAPPING, 4), 0xC7: (EXTENSION, 1),
    0xC8: (EXTENSION, 2), 0xC9: (EXTENSION, 4),
}  # fmt: skip
"""What follows a byte, and in how many bytes its length or number of items is written."""
_FIXED_EXTENSIONS = {0xD4: 1, 0xD5: 2, 0xD6: 4, 0xD7: 8, 0xD8: 16}
_FLOATS = {0xCA: 4, 0xCB: 8}
_CONSTANTS = (0xC0, 0xC2, 0xC3)


@dataclass(frozen=True, slots=True)
class Token:
    """The head of a value.

    Attributes:
        kind: What it is.
        count: Items of a mapping or an array, bytes that follow the head of anything else; the value of an integer.
        start: Offset of its first byte.
        code: The type of an extension.
    """

    kind: int
    count: int
    start: int
    code: int = 0


class Reader:
    """Reads the heads of values one after another; never reads beyond the end.

    Raises:
        FormatError: Every method raises it if the data ends early or is not MessagePack.
        NotSplittable: Every method raises it after a million values.
    """

    def __init__(self, data: Content) -> None:
        self._data = data
        self._left = _MOST_TOKENS
        self.at = 0

    def next(self) -> Token:
        """Return the next head, and advance behind it."""
        self._left -= 1
        if self._left < 0:
            raise NotSplittable(f"it has more than {_MOST_TOKENS} values")
        start = self.at
        first = self._number(1)
        if first < _FIXED_MAPPING or first >= _NEGATIVE:
            return Token(INTEGER, first if first < _NEGATIVE else first - 0x100, start)
        if first < _FIXED_ARRAY:
            return Token(MAPPING, first - _FIXED_MAPPING, start)
        if first < _FIXED_TEXT:
            return Token(ARRAY, first - _FIXED_ARRAY, start)
        if first < _NOTHING:
            return Token(TEXT, first - _FIXED_TEXT, start)
        if first in _INTEGERS:
            width, signed = _INTEGERS[first]
            return Token(INTEGER, self._number(width, signed=signed), start)
        return self._long(first, start)

    def _long(self, first: int, start: int) -> Token:
        if first in _FIXED_EXTENSIONS:
            return Token(EXTENSION, _FIXED_EXTENSIONS[first], start, self._number(1))
        if first in _LENGTHS:
            kind, width = _LENGTHS[first]
            count = self._number(width)
            return Token(kind, count, start, self._number(1) if kind == EXTENSION else 0)
        if first in _FLOATS or first in _CONSTANTS:
            return Token(OTHER, _FLOATS.get(first, 0), start)
        raise FormatError(f"byte {start} is not MessagePack")

    def skip(self, token: Token) -> None:
        """Advance behind the value of a text, of binary data, of an extension or of a float, whose head was read."""
        if token.kind != INTEGER:
            self.advance(token.count)

    def text(self) -> str:
        """Return the next value, which must be a short text, or binary data of one."""
        token = self.next()
        if token.kind not in (TEXT, BINARY) or token.count > _LONGEST_KEY:
            raise FormatError(f"no short text at byte {token.start}")
        return str(self._take(token.count), "utf-8", "surrogateescape")

    def key(self) -> str:
        """Return the next value, which must be a short text or an integer."""
        before = self.at
        token = self.next()
        if token.kind == INTEGER:
            return str(token.count)
        self.at = before
        return self.text()

    def _number(self, width: int, *, signed: bool = False) -> int:
        return int.from_bytes(self._take(width), "big", signed=signed)

    def _take(self, nbytes: int) -> memoryview:
        self.advance(nbytes)
        return self._data[self.at - nbytes : self.at]

    def advance(self, nbytes: int) -> None:
        """Advance by a number of bytes."""
        if nbytes > self._data.nbytes - self.at:
            raise FormatError(f"{nbytes} bytes at {self.at} of {self._data.nbytes}; the file may be truncated")
        self.at += nbytes
