"""Compute on the CPU with numpy, without moving data."""

from __future__ import annotations

import sys
from contextlib import contextmanager
from typing import TYPE_CHECKING

from git_theta_ext.merging.devices.device import CPU
from git_theta_ext.merging.devices.elements import load_numbers, save_numbers

if TYPE_CHECKING:
    from collections.abc import Iterator

    from typing_extensions import Buffer

    from git_theta_ext.interfaces import Array
    from git_theta_ext.merging.devices.device import Lane
    from git_theta_ext.model.dtypes import Dtype


@contextmanager
def one_thread() -> Iterator[None]:
    """Limit torch, if it is used, to one thread for each operation, while several threads already share the work."""
    torch = sys.modules.get("torch")
    if torch is None:
        yield
        return
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
    block = 1 << 16
    fused = True

    @contextmanager
    def lane(self) -> Iterator[Lane]:
        """Let this thread compute, without warnings: results are checked. See ``Device``."""
        import numpy as np

        with np.errstate(all="ignore"):
            yield self

    def free(self) -> int | None:
        """Return None; see ``Device``."""
        return None

    def load(self, data: Buffer, dtype: Dtype, *, wide: bool) -> Array:
        """Return elements as numbers; see ``Lane``."""
        return load_numbers(data, dtype, wide=wide)

    def save(self, values: Array, dtype: Dtype, room: Buffer) -> None:
        """Write the rounded numbers' bytes; see ``Lane``."""
        save_numbers(values, dtype, room)
