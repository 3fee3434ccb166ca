"""Read the literal bytes of a layout as if they were a file whose tensors are zero."""

from __future__ import annotations

from bisect import bisect_right
from typing import TYPE_CHECKING, overload

from git_theta_ext.interfaces import Literal

if TYPE_CHECKING:
    from git_theta_ext.interfaces import Layout


class LiteralContent:
    """The bytes of a file with a given layout; those of tensors and of checksums are zero.

    A format that finds its tensors by structures between them can read these structures from a layout as from a file.

    Attributes:
        nbytes: Size of the file.
    """

    def __init__(self, layout: Layout) -> None:
        self.nbytes = layout.nbytes
        self._literals = [(at, part.data) for at, part in layout.located() if isinstance(part, Literal)]
        self._starts = [at for at, _ in self._literals]

    @overload
    def __getitem__(self, key: int, /) -> int: ...
    @overload
    def __getitem__(self, key: slice, /) -> memoryview: ...
    def __getitem__(self, key: int | slice, /) -> int | memoryview:
        """Return a byte, or a copy of a range."""
        if isinstance(key, int):
            return self[key : key + 1][0]
        start, end, _ = key.indices(self.nbytes)
        made = bytearray(max(0, end - start))
        first = max(0, bisect_right(self._starts, start) - 1)
        for at, data in self._literals[first : bisect_right(self._starts, end)]:
            overlap = data[max(0, start - at) : max(0, end - at)]
            begin = max(0, at - start)
            made[begin : begin + len(overlap)] = overlap
        return memoryview(made)
