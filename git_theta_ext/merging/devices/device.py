"""Where merges are computed: numbers from the store's bytes, and back."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from contextlib import AbstractContextManager

    import torch
    from typing_extensions import Buffer

    from git_theta_ext.model.dtypes import Dtype

CPU, CUDA = "cpu", "cuda"


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
