"""Hash the pieces of tensors in their order, in the threads that decode them, while they are in the CPU's cache."""

from __future__ import annotations

from threading import Lock
from typing import TYPE_CHECKING

from git_theta_ext.model.tensor import TensorHasher

if TYPE_CHECKING:
    from collections.abc import Sequence

    from git_theta_ext.model.tensor import Digest, TensorSpec


class GroupHasher:
    """Computes the digests of tensors that are decoded in step, from pieces that threads add in any order.

    Args:
        specs: Element type and shape of each tensor.
    """

    def __init__(self, specs: Sequence[TensorSpec]) -> None:
        self._hashers = [TensorHasher(spec) for spec in specs]
        self._lock = Lock()
        self._waiting: dict[int, Sequence[memoryview]] = {}
        self._next = 0

    def add(self, number: int, chunks: Sequence[memoryview]) -> None:
        """Add a piece. It is hashed at once if those before it are, unless another thread is hashing.

        Args:
            number: Number of the piece.
            chunks: Its bytes in each tensor, unchanged until ``hash_up_to`` has returned for it.
        """
        self._waiting[number] = chunks
        if self._lock.acquire(blocking=False):
            try:
                self._hash_up_to(number)
            finally:
                self._lock.release()

    def hash_up_to(self, number: int) -> None:
        """Hash a piece and those before it, all of which were added, if no thread has done so."""
        with self._lock:
            self._hash_up_to(number)

    def _hash_up_to(self, number: int) -> None:
        while self._next <= number and (chunks := self._waiting.pop(self._next, None)) is not None:
            for hasher, chunk in zip(self._hashers, chunks, strict=True):
                hasher.update(chunk)
            self._next += 1

    def digests(self) -> list[Digest]:
        """Return the digest of each tensor, after all pieces were hashed."""
        return [hasher.digest() for hasher in self._hashers]
