"""Where merges are computed: numbers from the store's bytes, and back."""

from __future__ import annotations

import sys
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from git_theta_ext.errors import ConfigError
from git_theta_ext.model.numbers import components

if TYPE_CHECKING:
    from collections.abc import Iterator
    from contextlib import AbstractContextManager

    import torch
    from typing_extensions import Buffer

    from git_theta_ext.model.dtypes import Dtype

CPU, CUDA = "cpu", "cuda"

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

_DRIVERS = ("nvidiactl", "dxg", "kfd", "nvhost-ctrl", "nvmap")
"""In /dev: one of these is there where torch may find a CUDA device (NVIDIA's own, Windows', AMD's, two of Tegra's)."""


class Lane(Protocol):
    """What one piece is worked on with."""

    def load(self, data: Buffer, dtype: Dtype, *, wide: bool) -> torch.Tensor:
        """Return elements as float32, as float64 if ``wide``, and integers as int64; one-dimensional.

        The result may share ``data``.
        """
        ...

    def save(self, values: torch.Tensor, dtype: Dtype, room: Buffer) -> None:
        """Round numbers to an element type, and write their bytes into a room of their size."""
        ...


class Device(Protocol):
    """Where a merge is computed.

    Attributes:
        name: As torch calls it, such as ``cpu`` or ``cuda:1``.
        threads: In how many threads pieces can be computed at a time.
        span: How many of the store's chunks make a piece.
    """

    name: str
    threads: int
    span: int

    def lane(self) -> AbstractContextManager[Lane]:
        """Let this thread compute there, as one of ``threads``; what it made there must be gone behind the context."""
        ...

    def free(self) -> int | None:
        """Return the bytes of memory that tensors can still take; None where they share it with all others."""
        ...

    def load(self, data: Buffer, dtype: Dtype, *, wide: bool) -> torch.Tensor:
        """Return elements as numbers, as ``Lane.load`` does, for as long as they are wanted."""
        ...


@dataclass(frozen=True)
class Devices:
    """What shares the work of a merge.

    Attributes:
        used: One or more.
        spare: Merges what needs more memory than any of them has; None where that is an error.
    """

    used: tuple[Device, ...]
    spare: Device | None = None


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


def torch_dtype(dtype: Dtype) -> torch.dtype:
    """Return the type of a tensor of such elements; of complex ones that of their parts."""
    import torch

    found: torch.dtype = getattr(torch, TORCH[dtype.name])
    return found


def viewed(data: Buffer, kind: torch.dtype) -> torch.Tensor:
    """Return bytes as a tensor that shares them, also where there are none, which torch.frombuffer refuses."""
    import torch

    return torch.frombuffer(data, dtype=kind) if memoryview(data).nbytes else torch.empty(0, dtype=kind)


def widened(values: torch.Tensor, dtype: Dtype, *, wide: bool) -> torch.Tensor:
    """Return elements as the numbers that are computed with; the same tensor where they are these."""
    import torch

    if dtype.kind in ("int", "uint", "bool"):
        return values.to(torch.int64)
    return values.to(torch.float64 if wide else torch.float32)


def prepared(values: torch.Tensor, dtype: Dtype) -> torch.Tensor:
    """Return numbers in one dimension, as float32 where float64 would be rounded otherwise than ``model.numbers``."""
    import torch

    flat = values.reshape(-1)
    narrow = dtype.bits // components(dtype) <= 16  # noqa: PLR2004 - bits
    return flat.to(torch.float32) if narrow and flat.dtype == torch.float64 else flat


class Cpu:
    """The processor: nothing is moved."""

    name = CPU
    threads = sys.maxsize
    span = 1

    def lane(self) -> AbstractContextManager[Lane]:
        """Let this thread compute; see ``Device``."""
        return nullcontext(self)

    def free(self) -> int | None:
        """Return None; see ``Device``."""
        return None

    def load(self, data: Buffer, dtype: Dtype, *, wide: bool) -> torch.Tensor:
        """Return elements as numbers; see ``Lane``."""
        return widened(viewed(data, torch_dtype(dtype)), dtype, wide=wide)

    def save(self, values: torch.Tensor, dtype: Dtype, room: Buffer) -> None:
        """Write the rounded numbers' bytes; see ``Lane``."""
        viewed(room, torch_dtype(dtype)).copy_(prepared(values, dtype))


def device_names(asked: str, *, guess: bool = False) -> tuple[str, ...]:
    """Return the names of the devices that ``theta.merge.device`` asks for.

    Args:
        asked: ``auto`` (all CUDA devices, or the processor where there is none), ``cpu``, ``cuda`` or ``cuda:N``.
        guess: Whether to take it from the lack of a driver that there is no CUDA device, without loading torch.

    Raises:
        ConfigError: It is none of these, or not here.
    """
    kind, _, number = asked.partition(":")
    if asked not in ("auto", CPU, CUDA) and (kind != CUDA or not number.isdecimal()):
        raise ConfigError(f"theta.merge.device is {asked!r}", hint="git config theta.merge.device auto")
    if asked == CPU or (asked == "auto" and guess and not any(Path("/dev", name).exists() for name in _DRIVERS)):
        return (CPU,)
    import torch

    count = torch.cuda.device_count() if torch.cuda.is_available() else 0
    if asked == "auto" and not count:
        return (CPU,)
    if int(number or 0) >= count:
        raise ConfigError(
            f"theta.merge.device is {asked!r}, and there is no such device", hint="git config theta.merge.device cpu"
        )
    return (f"{CUDA}:{int(number)}",) if number else tuple(f"{CUDA}:{each}" for each in range(count))


def open_devices(asked: str) -> Devices:
    """Return the devices that ``theta.merge.device`` asks for, with the processor to spare where that is ``auto``.

    Raises:
        ConfigError: It asks for something that does not exist, or is not here.
    """
    from git_theta_ext.merging.cuda import Cuda

    used = tuple(Cpu() if name == CPU else Cuda(name) for name in device_names(asked))
    return Devices(used, Cpu() if asked == "auto" else None)
