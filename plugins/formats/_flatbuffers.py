"""Read the tables of a FlatBuffers file in place.

See https://flatbuffers.dev/internals. A table begins with the distance to its vtable, which says where its fields are.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from git_theta_ext.errors import FormatError
from git_theta_ext.interfaces import NotSplittable

if TYPE_CHECKING:
    from collections.abc import Iterator

    from git_theta_ext.interfaces import Content

_MOST_TABLES = 1 << 20
_VTABLE = 4
"""Bytes at the beginning of a vtable: its size and that of the table."""


class Reader:
    """Reads values; never outside the file.

    Raises:
        FormatError: A value is outside the file.
        NotSplittable: More than a million tables were read.
    """

    def __init__(self, data: Content) -> None:
        self.data = data
        self._left = _MOST_TABLES

    def integer(self, at: int, width: int, *, signed: bool = False) -> int:
        """Return the integer of some bytes at a place."""
        self.check(at, width)
        return int.from_bytes(self.data[at : at + width], "little", signed=signed)

    def check(self, at: int, nbytes: int) -> None:
        """Check that a range is in the file."""
        if not 0 <= at <= self.data.nbytes - nbytes:
            raise FormatError(f"{nbytes} bytes at {at} of {self.data.nbytes}; the file may be truncated")

    def root(self) -> Table:
        """Return the outermost table."""
        return self.table(self.integer(0, 4))

    def table(self, at: int) -> Table:
        """Return the table at a place."""
        self._left -= 1
        if self._left < 0:
            raise NotSplittable(f"it has more than {_MOST_TABLES} tables")
        vtable = at - self.integer(at, 4, signed=True)
        nbytes = self.integer(vtable, 2)
        if nbytes < _VTABLE:
            raise FormatError(f"the table at byte {at} has a vtable of {nbytes} bytes")
        return Table(self, at, vtable, nbytes)


@dataclass(frozen=True, slots=True)
class Table:
    """A table.

    Attributes:
        reader: The file.
        at: Where it begins.
        vtable: Where its vtable begins.
        nbytes: The size of the vtable.
    """

    reader: Reader
    at: int
    vtable: int
    nbytes: int

    def integer(self, field: int, width: int) -> int:
        """Return an integer without a sign; zero if the field is not set."""
        at = self._field(field)
        return self.reader.integer(at, width) if at else 0

    def vector(self, field: int, width: int) -> tuple[int, int]:
        """Return where the elements of a vector begin, and how many there are; zeros if the field is not set."""
        at = self._field(field)
        if not at:
            return 0, 0
        at += self.reader.integer(at, 4)
        count = self.reader.integer(at, 4)
        self.reader.check(at + 4, count * width)
        return at + 4, count

    def text(self, field: int, most: int) -> str:
        """Return a text, at most so many bytes of it."""
        start, nbytes = self.vector(field, 1)
        return str(self.reader.data[start : start + min(nbytes, most)], "utf-8", "backslashreplace")

    def tables(self, field: int) -> Iterator[Table]:
        """Yield the tables of a vector."""
        start, count = self.vector(field, 4)
        for at in range(start, start + 4 * count, 4):
            yield self.reader.table(at + self.reader.integer(at, 4))

    def _field(self, field: int) -> int:
        """Return where a field is; zero if it is not set."""
        entry = _VTABLE + 2 * field
        place = self.reader.integer(self.vtable + entry, 2) if entry + 2 <= self.nbytes else 0
        return self.at + place if place else 0
