"""Any other file, cut into chunks by its content.

The cutting rule is a gear hash (Xia et al., "FastCDC", USENIX ATC 2016) over a window of 32 bytes: the hash at byte i
is the sum of ``gear[byte i-k] << k`` for k from 0 to 31, modulo 2^32. numpy computes it for all bytes at once by
doubling the window five times. The table and the limits must never change: unchanged files would be stored again.
"""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING, Any

from blake3 import blake3

from git_theta_ext.interfaces import Extent, TensorSpec

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    import numpy as np
    from numpy.typing import NDArray

    from git_theta_ext.interfaces import Content, Layout

SMALLEST = 128 << 10
"""The minimum size in bytes of all chunks except the last."""
LARGEST = 2 << 20
"""The maximum size in bytes of a chunk."""

_WINDOW = 32
_SLAB = 1 << 20
# After SMALLEST bytes, each position is a cut with a probability of 1 in 384 Ki: chunks have 512 KiB on average.
_THRESHOLD = (1 << 32) // (384 << 10)


class OpaqueFormat:
    """Splits files without regard to tensors; its parameters are chunks of bytes."""

    name = "opaque"
    mergeable = False

    def detect(self, data: Content) -> bool:  # noqa: ARG002 - the seam's signature
        """Return True: every file is accepted."""
        return True

    def parse(self, data: Content) -> list[Extent]:
        """Cut the file into chunks of 128 KiB to 2 MiB, 512 KiB on average, named in file order."""
        chunks = []
        start = 0
        for number, end in enumerate(boundaries(data)):
            chunks.append(Extent(f"chunk/{number:06}", TensorSpec.of("U8", (end - start,)), start))
            start = end
        return chunks

    def compose(self, layout: Layout, parameters: Mapping[str, TensorSpec]) -> None:
        """Return None: chunks of two versions do not form a file."""

    def facts(self, layout: Layout) -> dict[str, bytes]:  # noqa: ARG002 - the seam's signature
        """Return an empty mapping: all bytes are in chunks."""
        return {}

    def with_facts(self, layout: Layout, facts: Mapping[str, bytes]) -> None:
        """Return None: an opaque file has no facts."""


FORMAT = OpaqueFormat()


def boundaries(data: Content, slab: int = _SLAB) -> Iterator[int]:
    """Yield the end of every chunk; the last is the file's size.

    Args:
        data: The whole file.
        slab: Number of bytes to process at a time, with 40 times as much memory. The result does not depend on it.
    """
    start = 0
    if data.nbytes > SMALLEST:
        for begin in range(0, data.nbytes, slab):
            end = min(begin + slab, data.nbytes)
            cuts = _cuts(data, begin, end)
            while True:
                at = int(cuts.searchsorted(start + SMALLEST))
                cut = int(cuts[at]) if at < cuts.size else end + 1
                cut = min(cut, start + LARGEST)
                if cut > end:
                    break
                yield cut
                start = cut
    if start < data.nbytes:
        yield data.nbytes


@cache
def _gear() -> NDArray[np.uint32]:
    import numpy as np

    return np.frombuffer(blake3(b"git-theta gear 1").digest(length=1024), dtype="<u4").astype(np.uint32)


def _cuts(data: Content, begin: int, end: int) -> NDArray[np.int64]:
    """Return in order the positions after the bytes from ``begin`` up to ``end`` at which the hash makes a cut."""
    import numpy as np

    first = max(0, begin - (_WINDOW - 1))
    hashes: NDArray[Any] = _gear()[np.frombuffer(data[first:end], dtype=np.uint8)]
    width = 1
    while width < _WINDOW:
        # Both operands have the old values, because the shifted copy is complete before the sum is written.
        hashes[width:] += hashes[:-width] << np.uint32(width)
        width *= 2
    return np.flatnonzero(hashes[begin - first :] < _THRESHOLD) + (begin + 1)
