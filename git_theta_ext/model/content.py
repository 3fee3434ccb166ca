"""The interface through which a format reads a file, and what is like one."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Protocol, overload


class Content(Protocol):
    """The bytes of a file, read on demand. A ``memoryview`` of bytes satisfies this protocol.

    It is not a buffer: a slice is a copy, which does not change if another program writes to the file.
    """

    @property
    def nbytes(self) -> int:
        """Size in bytes."""
        ...

    @overload
    def __getitem__(self, key: int, /) -> int: ...
    @overload
    def __getitem__(self, key: slice, /) -> memoryview: ...


class RangeContent(ABC):
    """A ``Content`` that is made of something else, such as a part of a file; a subclass reads ranges of it.

    Attributes:
        nbytes: Size in bytes.
    """

    nbytes: int

    @abstractmethod
    def read(self, start: int, stop: int) -> memoryview:
        """Return a copy of the bytes from ``start`` up to ``stop``; 0 <= start <= stop <= nbytes."""

    @overload
    def __getitem__(self, key: int, /) -> int: ...
    @overload
    def __getitem__(self, key: slice, /) -> memoryview: ...
    def __getitem__(self, key: int | slice, /) -> int | memoryview:
        """Return a byte, or a copy of a range."""
        if isinstance(key, int):
            return self[key : key + 1][0]
        start, stop, _ = key.indices(self.nbytes)
        return self.read(start, max(start, stop))


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
