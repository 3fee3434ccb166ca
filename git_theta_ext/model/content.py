"""What a format reads a file through."""

from __future__ import annotations

from typing import Protocol, overload


class Content(Protocol):
    """The bytes of a file, which are read on demand. A ``memoryview`` of bytes is one.

    No buffer: a slice is a copy, which others that write to the file do not change.
    """

    @property
    def nbytes(self) -> int:
        """Size in bytes."""
        ...

    @overload
    def __getitem__(self, key: int, /) -> int: ...
    @overload
    def __getitem__(self, key: slice, /) -> memoryview: ...
