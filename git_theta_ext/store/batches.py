"""Store computed tensors in batches, so that small tensors share packs."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

from git_theta_ext.model.manifest import Parameter
from git_theta_ext.model.tensor import tensor_digest

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from concurrent.futures import Future, ThreadPoolExecutor

    from typing_extensions import Buffer

    from git_theta_ext.model.tensor import Digest, TensorSpec
    from git_theta_ext.store.deltas.encode import DeltaHint
    from git_theta_ext.store.tensor_store import TensorStore

    _Items = Sequence[tuple[TensorSpec, Digest, Buffer]]
    _Batch = tuple[_Items, Mapping[Digest, DeltaHint], Sequence[tuple[Digest, Any]]]

BATCH_BYTES = 1 << 25
"""Bytes of tensors that are stored together. As many more may be waiting in memory."""


def waiting_bytes(sizes: Sequence[int]) -> int:
    """Return the most bytes of tensors that wait to be stored: two batches are in memory at the same time.

    Args:
        sizes: Size of each tensor that is stored.
    """
    return min(sum(sizes), 2 * (BATCH_BYTES + max(sizes, default=0)))


class Batches:
    """Stores tensors in batches, in a thread, while the next ones are computed.

    Args:
        store: The store to write to.
        durable: Called, mostly in another thread, with digest and note of each tensor that became durable.

    Attributes:
        written: Number of bytes written so far.
    """

    def __init__(
        self, store: TensorStore, durable: Callable[[Sequence[tuple[Digest, Any]]], None] = lambda _: None
    ) -> None:
        self.written = 0
        self._store = store
        self._durable = durable
        self._waiting: list[tuple[TensorSpec, Digest, Buffer]] = []
        self._hints: dict[Digest, DeltaHint] = {}
        self._notes: list[tuple[Digest, Any]] = []
        self._nbytes = 0
        self._given: set[Digest] = set()
        self._executor: ThreadPoolExecutor | None = None
        self._begun: Future[None] | None = None
        self._finish: Callable[[], None] = _nothing

    def add(
        self,
        spec: TensorSpec,
        data: Buffer,
        hint: DeltaHint | None = None,
        note: Any = None,
        digest: Digest | None = None,
    ) -> Parameter:
        """Add a tensor. It is durable at the latest when ``flush`` returns.

        Args:
            spec: Element type and shape.
            data: Little-endian bytes.
            hint: How the tensor may be stored as a delta.
            note: Passed to ``durable`` with the tensor.
            digest: Its digest, trusted; None to compute it.

        Raises:
            StoreError: The store cannot be written.
        """
        digest = digest or tensor_digest(spec, data, threads=self._store.threads)
        self._notes.append((digest, note))
        if digest not in self._given:  # the store cannot find yet what is being stored
            self._given.add(digest)
            self._waiting.append((spec, digest, data))
            if hint is not None:
                self._hints[digest] = hint
            self._nbytes += spec.nbytes
        if self._nbytes >= BATCH_BYTES:
            self._begin()
        return Parameter(spec, digest)

    def _begin(self) -> None:
        """Start to store the waiting batch after the previous one is encoded: at most two batches are in memory."""
        self._end()
        if self._executor is None:
            from concurrent.futures import ThreadPoolExecutor  # which imports logging

            self._executor = ThreadPoolExecutor(1)
        self._begun = self._executor.submit(self._put, *self._taken())

    def _taken(self) -> _Batch:
        """Return the waiting batch, and begin a new one."""
        batch = self._waiting, self._hints, self._notes
        self._waiting, self._hints, self._notes, self._nbytes = [], {}, [], 0
        return batch

    def _put(self, items: _Items, hints: Mapping[Digest, DeltaHint], notes: Sequence[tuple[Digest, Any]]) -> None:
        """Encode a batch, and finish the one before, whose packs were named meanwhile."""
        before, self._finish = self._finish, _nothing
        try:
            finish = self._store.begin_put(items, hints=hints)
        finally:
            before()
        self._finish = partial(self._finished, finish, notes)

    def _finished(self, finish: Callable[[], int], notes: Sequence[tuple[Digest, Any]]) -> None:
        self.written += finish()
        self._durable(notes)

    def _end(self) -> None:
        begun, self._begun = self._begun, None
        if begun is not None:
            begun.result()

    def flush(self) -> None:
        """Make all added tensors durable.

        Raises:
            StoreError: The store cannot be written.
        """
        self._end()
        if self._notes:
            self._put(*self._taken())
        finish, self._finish = self._finish, _nothing
        finish()


def _nothing() -> None:
    pass
