"""Walk through the fields of protobuf messages without building them.

See https://protobuf.dev/programming-guides/encoding/.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from git_theta_ext.errors import FormatError
from git_theta_ext.interfaces import NotSplittable

if TYPE_CHECKING:
    from collections.abc import Iterator

    from git_theta_ext.interfaces import Content

VARINT, FIXED64, BYTES, FIXED32 = 0, 1, 2, 5
"""How the value of a field is written."""

_WIDTHS = {FIXED64: 8, FIXED32: 4}
_LONGEST_VARINT = 10
_MOST_FIELDS = 1 << 20


@dataclass(frozen=True, slots=True)
class Field:
    """A field of a message.

    Attributes:
        number: Its number in the message.
        kind: How its value is written.
        start: Offset of its value, or of its content if it is ``BYTES``.
        end: Offset of the first byte after it.
        value: The value of a ``VARINT``, else zero.
    """

    number: int
    kind: int
    start: int
    end: int
    value: int = 0


class Walker:
    """Reads messages of a file; never reads beyond the end of one.

    Raises:
        FormatError: A message ends early or is not protobuf.
        NotSplittable: More than a million fields were read.
    """

    def __init__(self, data: Content) -> None:
        self.data = data
        self._left = _MOST_FIELDS

    def fields(self, start: int, end: int) -> Iterator[Field]:
        """Yield the fields of the message in a range of the file, in their order."""
        at = start
        while at < end:
            self._left -= 1
            if self._left < 0:
                raise NotSplittable(f"it has more than {_MOST_FIELDS} fields")
            tag, at = self._varint(at, end)
            number, kind = tag >> 3, tag & 7
            value = 0
            if kind == VARINT:
                begin = at
                value, at = self._varint(at, end)
            else:
                nbytes, begin = self._varint(at, end) if kind == BYTES else (_WIDTHS.get(kind), at)
                if not number or nbytes is None:
                    raise FormatError(f"byte {at} does not begin a field")
                if nbytes > end - begin:
                    raise FormatError(f"{nbytes} bytes at {begin} of {end}; the file may be truncated")
                at = begin + nbytes
            yield Field(number, kind, begin, at, value)

    def text(self, field: Field, most: int) -> str:
        """Return the text of a field.

        Raises:
            FormatError: It is longer than ``most`` bytes, or is not text.
        """
        if field.kind != BYTES or field.end - field.start > most:
            raise FormatError(f"no short text at byte {field.start}")
        return str(self.data[field.start : field.end], "utf-8", "surrogateescape")

    def integers(self, field: Field, most: int) -> list[int]:
        """Return the values of a field of integers, packed or single.

        Raises:
            FormatError: It has more than ``most`` values.
        """
        if field.kind != BYTES:
            return [field.value]
        values: list[int] = []
        at = field.start
        while at < field.end:
            value, at = self._varint(at, field.end)
            values.append(value)
            if len(values) > most:
                raise FormatError(f"more than {most} values at byte {field.start}")
        return values

    def _varint(self, at: int, end: int) -> tuple[int, int]:
        value = 0
        for number, byte in enumerate(self.data[at : min(end, at + _LONGEST_VARINT)]):
            value |= (byte & 0x7F) << 7 * number
            if byte < 0x80:  # noqa: PLR2004 - the bit that says that more follows
                return value, at + number + 1
        raise FormatError(f"the number at byte {at} does not end; the file may be truncated")
