"""Move values between the store's bytes and tensors of floats on the device that computes.

On CUDA bytes travel through pinned slabs that are taken once and used in turn. Copies in, the computation and copies
out have streams of their own, so that they overlap.
"""

from __future__ import annotations

import ctypes
from collections import deque
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

from git_theta_ext.errors import ConfigError
from git_theta_ext.model.numbers import components

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    import torch
    from typing_extensions import Buffer

    from git_theta_ext.model.dtypes import Dtype

TORCH = {
    "F16": "float16",
    "BF16": "bfloat16",
    "F32": "float32",
    "F64": "float64",
    "C64": "float32",
    "C128": "float64",
    "F8_E4M3": "float8_e4m3fn",
    "F8_E5M2": "float8_e5m2",
    "F8_E4M3FNUZ": "float8_e4m3fnuz",
    "F8_E5M2FNUZ": "float8_e5m2fnuz",
    "BOOL": "uint8",
    "U8": "uint8",
    "I8": "int8",
    "U16": "uint16",
    "I16": "int16",
    "U32": "uint32",
    "I32": "int32",
    "U64": "uint64",
    "I64": "int64",
}
"""Element type to that of the tensors that hold its numbers."""

_MALLOC = {-1: 1 << 30, -3: 1 << 25}
"""M_TRIM_THRESHOLD and M_MMAP_THRESHOLD of mallopt(3), in bytes; the latter is as large as it may be."""

_SLAB_BYTES = 1 << 22
"""Of a piece of a tensor, as the store hands them out; larger ones take pinned memory of their own."""

_SLABS = 4
"""Pinned slabs for each direction: one being filled, one on its way, one being computed with, one to spare."""


class Device(Protocol):
    """Where a merge is computed.

    Attributes:
        name: As torch calls it, such as ``cpu`` or ``cuda:1``.
        depth: How many saved pieces may be on their way.
        threads: Whether pieces can be computed in several threads.
    """

    name: str
    depth: int
    threads: bool

    def load(self, data: Buffer, dtype: Dtype, *, wide: bool) -> torch.Tensor:
        """Return elements as float32, as float64 if ``wide``, and integers as int64; one-dimensional.

        The result may share ``data``.
        """
        ...

    def save(self, values: torch.Tensor, dtype: Dtype) -> Callable[[], memoryview]:
        """Round numbers to an element type, and return what waits for their bytes."""
        ...


@contextmanager
def one_thread() -> Iterator[None]:
    """Keep torch from using more than one thread for an operation: the work is in several threads already."""
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def keep_freed_memory() -> None:
    """Let glibc keep the memory that is freed, for the rest of this process: each piece needs as much again.

    To take it from the kernel again takes longer than the arithmetic.
    """
    with suppress(OSError, AttributeError):  # another library
        for parameter, value in _MALLOC.items():
            ctypes.CDLL(None).mallopt(parameter, value)


def torch_dtype(dtype: Dtype) -> torch.dtype:
    """Return the type of a tensor of such elements; of complex ones that of their parts."""
    import torch

    found: torch.dtype = getattr(torch, TORCH[dtype.name])
    return found


def _widened(values: torch.Tensor, dtype: Dtype, *, wide: bool) -> torch.Tensor:
    import torch

    if dtype.kind in ("int", "uint", "bool"):
        return values.to(torch.int64)
    return values.to(torch.float64 if wide else torch.float32)


def _narrowed(values: torch.Tensor, dtype: Dtype) -> torch.Tensor:
    import torch

    if dtype.bits // components(dtype) <= 16 and values.dtype == torch.float64:  # noqa: PLR2004 - bits
        values = values.to(torch.float32)  # as model.numbers does
    return values.contiguous().to(torch_dtype(dtype)).view(torch.uint8)


class Cpu:
    """The processor: nothing is moved."""

    name = "cpu"
    depth = 0
    threads = True

    def load(self, data: Buffer, dtype: Dtype, *, wide: bool) -> torch.Tensor:
        """Return elements as numbers; see ``Device``."""
        import torch

        return _widened(torch.frombuffer(data, dtype=torch_dtype(dtype)), dtype, wide=wide)

    def save(self, values: torch.Tensor, dtype: Dtype) -> Callable[[], memoryview]:
        """Return what tells the bytes of the rounded numbers; see ``Device``."""
        data = _narrowed(values.reshape(-1), dtype).numpy().data
        return lambda: data


@dataclass
class _Slab:
    """Pinned memory, and the event behind which it may be used again."""

    room: torch.Tensor
    free: Any


def _pinned(nbytes: int) -> _Slab:
    import torch

    event: Any = torch.cuda.Event  # torch has no types for it
    return _Slab(torch.empty(nbytes, dtype=torch.uint8, pin_memory=True), event())


class Cuda:
    """A CUDA device, with three streams and pinned slabs.

    Args:
        name: ``cuda`` or ``cuda:N``.
    """

    def __init__(self, name: str) -> None:
        import torch

        self.name = name
        self.depth = _SLABS - 1
        self.threads = False
        self._device = torch.device(name)
        streams: Any = torch.cuda.Stream  # torch has no types for it
        self._inward, self._outward = streams(self._device), streams(self._device)
        self._slabs: dict[str, deque[_Slab]] = {
            way: deque(_pinned(_SLAB_BYTES) for _ in range(number))
            for way, number in (("in", 4 * _SLABS), ("out", _SLABS))
        }

    def _slab(self, way: str, nbytes: int) -> _Slab:
        slab = self._slabs[way][0]
        if slab.room.numel() < nbytes:
            return _pinned(nbytes)
        self._slabs[way].rotate(-1)
        slab.free.synchronize()
        return slab

    def load(self, data: Buffer, dtype: Dtype, *, wide: bool) -> torch.Tensor:
        """Return elements as numbers; see ``Device``."""
        import torch

        raw = torch.frombuffer(data, dtype=torch.uint8)
        slab = self._slab("in", raw.numel())
        slab.room[: raw.numel()].copy_(raw)
        with torch.cuda.stream(self._inward):
            there = slab.room[: raw.numel()].to(self._device, non_blocking=True)
            slab.free.record(self._inward)
        computing = torch.cuda.current_stream(self._device)
        computing.wait_stream(self._inward)
        there.record_stream(computing)
        return _widened(there.view(torch_dtype(dtype)), dtype, wide=wide)

    def save(self, values: torch.Tensor, dtype: Dtype) -> Callable[[], memoryview]:
        """Return what waits for the bytes of the rounded numbers; see ``Device``."""
        import torch

        raw = _narrowed(values.reshape(-1), dtype)
        slab = self._slab("out", raw.numel())
        self._outward.wait_stream(torch.cuda.current_stream(self._device))
        with torch.cuda.stream(self._outward):
            slab.room[: raw.numel()].copy_(raw, non_blocking=True)
            raw.record_stream(self._outward)
            slab.free.record(self._outward)

        def wait() -> memoryview:
            slab.free.synchronize()
            found: memoryview = slab.room[: raw.numel()].numpy().data
            return found

        return wait


def open_device(name: str) -> Device:
    """Return the device that ``theta.merge.device`` names.

    Args:
        name: ``auto`` (CUDA where there is one), ``cpu``, ``cuda`` or ``cuda:N``.

    Raises:
        ConfigError: It is none of these, or not here.
    """
    import torch

    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    if name == "cpu":
        return Cpu()
    kind, _, number = name.partition(":")
    if kind != "cuda" or not (number or "0").isdecimal():
        raise ConfigError(f"theta.merge.device is {name!r}", hint="git config theta.merge.device auto")
    if not torch.cuda.is_available() or int(number or 0) >= torch.cuda.device_count():
        raise ConfigError(
            f"theta.merge.device is {name!r}, and there is no such device", hint="git config theta.merge.device cpu"
        )
    return Cuda(name)
