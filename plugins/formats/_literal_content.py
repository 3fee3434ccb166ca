"""Read the literal bytes of a layout as if they were a file whose tensors are zero."""

from __future__ import annotations

from bisect import bisect_right
from typing import TYPE_CHECKING

from git_theta_ext.interfaces import Literal, RangeContent

if TYPE_CHECKING:
    from git_theta_ext.interfaces import Layout


class LiteralContent(RangeContent):
    """The bytes of a file with a given layout; those of tensors and of checksums are zero.

    A format that finds its tensors by structures between them can read these structures from a layout as from a file.

    Attributes:
        nbytes: Size of the file.
    """

    def __init__(self, layout: Layout) -> None:
        self.nbytes = layout.nbytes
        self._literals = [(at, part.data) for at, part in layout.located() if isinstance(part, Literal)]
        self._starts = [at for at, _ in self._literals]

    def read(self, start: int, stop: int) -> memoryview:
        """Return a copy of a range."""
        made = bytearray(stop - start)
        first = max(0, bisect_right(self._starts, start) - 1)
        for at, data in self._literals[first : bisect_right(self._starts, stop)]:
            overlap = data[max(0, start - at) : max(0, stop - at)]
            begin = max(0, at - start)
            made[begin : begin + len(overlap)] = overlap
        return memoryview(made)
