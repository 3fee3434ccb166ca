"""Compute on a CUDA device, several pieces at a time, each in its own lane.

A lane is a stream and two slabs of pinned memory. The thread that uses it fills one slab while the other one is copied,
enqueues the computation in the stream behind the copies, and waits for the result. The copies and computations of
different lanes overlap. Since all work of a lane is in one stream, streams need no synchronisation: freed memory is
reused by the same stream, after everything that still reads it. All tensors of a lane are gone when the lane is given
back, so that no more lanes take memory than there are.
"""

from __future__ import annotations

import sys
import warnings
from collections import deque
from contextlib import contextmanager, suppress
from queue import LifoQueue
from typing import TYPE_CHECKING, Any

from git_theta_ext.merging.devices.numbers import prepared, torch_dtype, viewed, widened
from git_theta_ext.model.dtypes import dtype as dtype_named
from git_theta_ext.records import dataclass

if TYPE_CHECKING:
    from collections.abc import Iterator

    import torch
    from typing_extensions import Buffer

    from git_theta_ext.model.dtypes import Dtype

LANES = 6
"""Enough to fill slabs, copy in, compute, copy out and empty slabs at the same time."""

SPAN = 8
"""Number of chunks in a piece: 2^22 elements. Python needs about 0.3 ms for a piece, in which the bus copies 10 MB."""

LIBRARY_BYTES = 1 << 26
"""Bytes for the workspaces of matrix products, and for rounding up of allocations."""

_SLABS = 2
_SLAB_BYTES = 1 << 22


@dataclass(frozen=True)
class _Slab:
    """Pinned memory, and the event after the last copy from or to it."""

    room: torch.Tensor
    copied: Any


class _Lane:
    """A stream and its slabs. Methods are called while the stream is the thread's current one."""

    def __init__(self, device: torch.device, rooms: torch.Tensor) -> None:
        import torch

        streams: Any = torch.cuda.Stream  # torch has no types for these
        events: Any = torch.cuda.Event
        self.stream = streams(device)
        self._device = device
        # Waiting threads sleep, so that others can decode.
        self._slabs = deque(_Slab(room, events(blocking=True)) for room in rooms)

    def load(self, data: Buffer, dtype: Dtype, *, wide: bool) -> torch.Tensor:
        """Return elements as numbers; see ``Lane``. ``data`` may be overwritten when it returns."""
        import torch

        raw = viewed(data, torch.uint8)
        there = torch.empty(raw.numel(), dtype=torch.uint8, device=self._device)
        for part, target in zip(torch.split(raw, _SLAB_BYTES), torch.split(there, _SLAB_BYTES), strict=True):
            slab = self._next()
            filled = slab.room[: part.numel()].copy_(part)
            target.copy_(filled, non_blocking=True)
            slab.copied.record(self.stream)
        return widened(there.view(torch_dtype(dtype)), dtype, wide=wide)

    def save(self, values: torch.Tensor, dtype: Dtype, room: Buffer) -> None:
        """Write the bytes of rounded numbers; see ``Lane``. All work in this lane is done when it returns."""
        import torch

        numbers = prepared(values, dtype)
        # In a new tensor: to be viewed as bytes it needs a stride of 1, which a single number may not have.
        rounded = torch.empty(numbers.numel(), dtype=torch_dtype(dtype), device=numbers.device).copy_(numbers)
        coming: deque[tuple[_Slab, torch.Tensor]] = deque()
        parts, targets = (
            torch.split(data, _SLAB_BYTES) for data in (rounded.view(torch.uint8), viewed(room, torch.uint8))
        )
        for part, target in zip(parts, targets, strict=True):
            if len(coming) == len(self._slabs):
                _take(*coming.popleft())
            slab = self._next()
            slab.room[: part.numel()].copy_(part, non_blocking=True)
            slab.copied.record(self.stream)
            coming.append((slab, target))
        while coming:
            _take(*coming.popleft())

    def _next(self) -> _Slab:
        """Return the least recently used slab, after its copy is done."""
        slab = self._slabs[0]
        self._slabs.rotate(-1)
        slab.copied.synchronize()
        return slab


def _take(slab: _Slab, target: torch.Tensor) -> None:
    """Copy a result out of a slab."""
    slab.copied.synchronize()
    target.copy_(slab.room[: target.numel()])


class Cuda:
    """A CUDA device. Its pinned memory is allocated once.

    Args:
        name: ``cuda:N``.
    """

    threads = LANES
    span = SPAN
    block = sys.maxsize
    fused = False

    def __init__(self, name: str) -> None:
        import torch

        self.name = name
        self._device = torch.device(name)
        self._idle: LifoQueue[_Lane] = LifoQueue()
        with torch.cuda.device(self._device):
            for rooms in _pinned(LANES, _SLABS, _SLAB_BYTES):
                self._idle.put(_Lane(self._device, rooms))

    @contextmanager
    def lane(self) -> Iterator[_Lane]:
        """Let this thread compute on the device, once a lane is idle; see ``Device``."""
        import torch

        lane = self._idle.get()
        try:
            # New threads use the first device, which may not be this one.
            with torch.cuda.device(self._device), torch.cuda.stream(lane.stream):
                yield lane
        except BaseException as error:
            from traceback import clear_frames  # whose import takes longer than that of this module

            clear_frames(error.__traceback__)  # which have the tensors of the lane
            raise
        finally:
            self._idle.put(lane)

    def try_out(self) -> None:
        """Copy a few numbers to the device, compute, and copy the result back.

        Raises:
            RuntimeError: The device cannot be used, such as one that this build of torch has no kernels for.
        """
        values, result = bytearray(range(8)), bytearray(8)
        with warnings.catch_warnings(), self.lane() as lane:
            warnings.simplefilter("ignore")  # torch warns about old devices, some of which it can use
            loaded = lane.load(values, dtype_named("I8"), wide=False)
            lane.save(loaded + 1, dtype_named("I8"), result)
        if result != bytes(range(1, 9)):
            raise RuntimeError("it computes wrong results")

    def free(self) -> int | None:
        """Return the bytes that are free, including those that torch caches; see ``Device``."""
        import torch

        try:
            free, _ = torch.cuda.mem_get_info(self._device)
        except RuntimeError:
            return 0  # the device failed earlier, and nothing can be allocated there
        return free + torch.cuda.memory_reserved(self._device) - torch.cuda.memory_allocated(self._device)

    def load(self, data: Buffer, dtype: Dtype, *, wide: bool) -> torch.Tensor:
        """Return elements as numbers, in the thread's current stream; see ``Device``."""
        return widened(viewed(data, torch_dtype(dtype)).to(self._device), dtype, wide=wide)


def _pinned(*shape: int) -> torch.Tensor:
    import torch

    return torch.empty(shape, dtype=torch.uint8, pin_memory=True)


_NO_MEMORY = ("CUDA error: out of memory", "_STATUS_ALLOC_FAILED")
_FAILURES = ("CUDA error", "CUDA driver error", "HIP error", "cusolver error", "CUBLAS_STATUS", "CUSOLVER_STATUS")
"""Parts of torch's messages about errors of a device; it has no class of exceptions for all of them."""


def failure_of(name: str, error: RuntimeError) -> str:
    """Return what happened to a device, such as ``cuda:0 ran out of memory``; nothing if the error is another one.

    Args:
        name: Name of the device.
        error: An exception of torch.
    """
    import torch

    text = str(error)
    # Torch itself, the workspace of a library, or the context may have had too little.
    if isinstance(error, torch.cuda.OutOfMemoryError) or any(words in text for words in _NO_MEMORY):
        return f"{name} ran out of memory"
    return f"{name} failed ({first_line(error)})" if any(words in text for words in _FAILURES) else ""


def first_line(error: Exception) -> str:
    """Return the first line of a message; torch's go on with advice about debugging."""
    return str(error).partition("\n")[0].rstrip(" .")


def give_back_memory() -> None:
    """Free the memory that torch caches on CUDA devices."""
    import torch

    with suppress(RuntimeError):  # a device that failed frees nothing
        if torch.cuda.is_available():
            torch.cuda.empty_cache()
