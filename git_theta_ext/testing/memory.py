"""Measure the memory that tensors take while code runs."""

from __future__ import annotations

import weakref
from typing import TYPE_CHECKING, Any

from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

if TYPE_CHECKING:
    from collections.abc import Iterable

    import torch


class Watch(TorchDispatchMode):  # type: ignore[no-untyped-call]  # torch has no types for it
    """Counts the bytes of all storages that operations of this thread make, until they are freed.

    Memory that an operation frees before it returns does not count.

    Args:
        excluded: Tensors that do not count.

    Attributes:
        held: Bytes that are held now.
        peak: The most that were held at a time.
    """

    def __init__(self, excluded: Iterable[Tensor] = ()) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.held = 0
        self.peak = 0
        self._storages: dict[int, weakref.ref[torch.UntypedStorage]] = {}
        for tensor in excluded:
            self._add(tensor, counts=False)

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Call an operation, and note what it returns."""
        del types
        result = func(*args, **(kwargs or {}))
        for leaf in tree_leaves(result):
            if isinstance(leaf, Tensor):
                self._add(leaf, counts=True)
        return result

    def _add(self, tensor: Tensor, *, counts: bool) -> None:
        storage = tensor.untyped_storage()
        key = id(storage)
        if key in self._storages:
            return
        nbytes = storage.nbytes() if counts else 0

        def gone(_: object) -> None:
            del self._storages[key]
            self.held -= nbytes

        self._storages[key] = weakref.ref(storage, gone)
        self.held += nbytes
        self.peak = max(self.peak, self.held)
