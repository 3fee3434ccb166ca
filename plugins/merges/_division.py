"""Division that rounds the same on every device."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch


def divided(values: torch.Tensor, divisor: float) -> torch.Tensor:
    """Divide by a number, in place.

    CUDA multiplies by the reciprocal of a number on the host, which may change the last bit
    (https://github.com/pytorch/pytorch/issues/191495). It divides by a number on the device.
    """
    import torch

    return values.div_(torch.full((), divisor, dtype=values.dtype, device=values.device))
