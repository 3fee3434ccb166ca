"""The interface through which a format reads a file."""

from __future__ import annotations

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
