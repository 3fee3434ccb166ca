"""Put computed tensors into the store, many small ones at a time, so that they share packs."""

from __future__ import annotations

from typing import TYPE_CHECKING

from git_theta_ext.model.manifest import Parameter
from git_theta_ext.model.tensor import tensor_digest

if TYPE_CHECKING:
    from typing_extensions import Buffer

    from git_theta_ext.model.tensor import Digest, TensorSpec
    from git_theta_ext.store.blobs import Store
    from git_theta_ext.store.coded import Hint

_BATCH_BYTES = 1 << 26


class Batches:
    """Takes tensors and stores them some at a time.

    Args:
        store: Where to.

    Attributes:
        written: Bytes that the store needed so far.
    """

    def __init__(self, store: Store) -> None:
        self.written = 0
        self._store = store
        self._waiting: list[tuple[TensorSpec, Digest, Buffer]] = []
        self._hints: dict[Digest, Hint] = {}
        self._nbytes = 0

    def add(self, spec: TensorSpec, data: Buffer, hint: Hint | None = None) -> Parameter:
        """Take over a tensor; it is stored at the latest by ``flush``.

        Args:
            spec: Its element type and shape.
            data: Its little-endian bytes.
            hint: How it may be held in fewer bytes.

        Raises:
            StoreError: The store cannot be written.
        """
        digest = tensor_digest(spec, data)
        self._waiting.append((spec, digest, data))
        if hint is not None:
            self._hints[digest] = hint
        self._nbytes += spec.nbytes
        if self._nbytes >= _BATCH_BYTES:
            self.flush()
        return Parameter(spec, digest)

    def flush(self) -> None:
        """Make durable what was added.

        Raises:
            StoreError: The store cannot be written.
        """
        if self._waiting:
            self.written += self._store.put(self._waiting, hints=self._hints)
        self._waiting, self._hints, self._nbytes = [], {}, 0
