"""Read a part of a file as if it were a file."""

from __future__ import annotations

from typing import TYPE_CHECKING

from git_theta_ext.interfaces import RangeContent

if TYPE_CHECKING:
    from git_theta_ext.interfaces import Content


class Part(RangeContent):
    """The bytes of a file from ``start`` up to ``end``, such as a member of an archive.

    Attributes:
        nbytes: Size of the part.
    """

    def __init__(self, data: Content, start: int, end: int) -> None:
        self._data = data
        self._start = start
        self.nbytes = end - start

    def read(self, start: int, stop: int) -> memoryview:
        """Return a copy of a range."""
        return self._data[self._start + start : self._start + stop]
