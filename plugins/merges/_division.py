"""Division that rounds alike everywhere."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch


def divided(values: torch.Tensor, divisor: float) -> torch.Tensor:
    """Divide by a number, in place.

    CUDA multiplies by the reciprocal of a number that the host has, and the last bit may be another
    (https://github.com/pytorch/pytorch/issues/191495). By one on the device it divides.
    """
    import torch

    return values.div_(torch.full((), divisor, dtype=values.dtype, device=values.device))
