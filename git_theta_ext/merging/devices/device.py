"""The interface of the devices that merges are computed on."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

from git_theta_ext.records import dataclass

if TYPE_CHECKING:
    from contextlib import AbstractContextManager

    from typing_extensions import Buffer

    from git_theta_ext.interfaces import Array
    from git_theta_ext.model.dtypes import Dtype

CPU, CUDA = "cpu", "cuda"


class Lane(Protocol):
    """The part of a device that computes one piece."""

    def load(self, data: Buffer, dtype: Dtype, *, wide: bool) -> Array:
        """Return elements as float32, as float64 if ``wide``, and integers as int64; one-dimensional.

        The result may share ``data``.
        """
        ...

    def save(self, values: Array, dtype: Dtype, room: Buffer) -> None:
        """Round numbers to an element type, and write their bytes."""
        ...


class Device(Protocol):
    """A device that merges are computed on.

    Attributes:
        name: Its name in torch, such as ``cpu`` or ``cuda:1``.
        threads: Number of threads that can compute pieces at the same time.
        span: Number of chunks of the store in a piece.
        block: Number of elements of a piece that a method gets at a time: as many as stay in the cache of a CPU.
        fused: Whether compiled kernels may merge pieces instead of a method, without ``lane``.
    """

    name: str
    threads: int
    span: int
    block: int
    fused: bool

    def lane(self) -> AbstractContextManager[Lane]:
        """Let this thread compute on the device; arrays created in the context must not be used after it."""
        ...

    def free(self) -> int | None:
        """Return the bytes of memory that are free for tensors; None for the memory of the host."""
        ...

    def load(self, data: Buffer, dtype: Dtype, *, wide: bool) -> Array:
        """Return elements as numbers, as ``Lane.load`` does, with no limit on their lifetime."""
        ...


@dataclass(frozen=True)
class Devices:
    """The devices that share the work of a merge.

    Attributes:
        used: One or more devices.
        spare: The device for tensors that need more memory than any of them has; None if that is an error.
        matrices_only: Whether ``used`` only get what multiplies or decomposes matrices, and ``spare`` the rest.
        notes: Messages for the user, about devices that cannot be used.
    """

    used: tuple[Device, ...]
    spare: Device | None = None
    matrices_only: bool = False
    notes: tuple[str, ...] = ()
