"""Keep the chunks that were decoded last: the next delta of a chain needs them."""

from __future__ import annotations

from collections import OrderedDict
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from git_theta_ext.model.tensor import Digest


class DecodedChunks:
    """The chunks of a few tensors that were decoded last, so that a chain of deltas is decoded once. For one thread.

    Args:
        limit: Total size in bytes. The last chunk is kept in any case.
    """

    def __init__(self, limit: int = 0) -> None:
        self._limit = limit
        self._nbytes = 0
        self._chunks: OrderedDict[tuple[Digest, int], memoryview] = OrderedDict()

    def get(self, digest: Digest, number: int) -> memoryview | None:
        """Return a chunk, or None if it is not there."""
        chunk = self._chunks.get((digest, number))
        if chunk is not None:
            self._chunks.move_to_end((digest, number))
        return chunk

    def add(self, digest: Digest, number: int, chunk: memoryview) -> None:
        """Add a chunk that is not there, and remove the oldest ones above the limit."""
        self._chunks[digest, number] = chunk
        self._nbytes += chunk.nbytes
        while self._nbytes > self._limit and len(self._chunks) > 1:
            self._nbytes -= self._chunks.popitem(last=False)[1].nbytes
