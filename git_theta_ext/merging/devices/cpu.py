"""Compute on the CPU, without moving data."""

from __future__ import annotations

import sys
from contextlib import contextmanager, nullcontext
from typing import TYPE_CHECKING

from git_theta_ext.merging.devices.device import CPU
from git_theta_ext.merging.devices.numbers import prepared, torch_dtype, viewed, widened

if TYPE_CHECKING:
    from collections.abc import Iterator
    from contextlib import AbstractContextManager

    import torch
    from typing_extensions import Buffer

    from git_theta_ext.merging.devices.device import Lane
    from git_theta_ext.model.dtypes import Dtype


@contextmanager
def one_thread() -> Iterator[None]:
    """Limit torch to one thread for each operation, while several threads already share the work."""
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


class Cpu:
    """The CPU."""

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
