"""Read a part of a file as if it were a file."""

from __future__ import annotations

from typing import TYPE_CHECKING, overload

if TYPE_CHECKING:
    from git_theta_ext.interfaces import Content


class Part:
    """The bytes of a file from ``start`` up to ``end``, such as a member of an archive.

    Attributes:
        nbytes: Size of the part.
    """

    def __init__(self, data: Content, start: int, end: int) -> None:
        self._data = data
        self._start = start
        self.nbytes = end - start

    @overload
    def __getitem__(self, key: int, /) -> int: ...
    @overload
    def __getitem__(self, key: slice, /) -> memoryview: ...
    def __getitem__(self, key: int | slice, /) -> int | memoryview:
        """Return a byte, or a copy of a range."""
        if isinstance(key, int):
            return self[key : key + 1][0]
        start, end, _ = key.indices(self.nbytes)
        return self._data[self._start + start : self._start + max(start, end)]
