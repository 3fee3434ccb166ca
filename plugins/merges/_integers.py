"""Sums of integers: torch wraps around silently if one does not fit in 64 bits."""

from __future__ import annotations

from typing import TYPE_CHECKING

from git_theta_ext.errors import MergeError

if TYPE_CHECKING:
    from collections.abc import Sequence

    import torch

_BLOCK = 1 << 16
"""Elements that are checked at a time, so that this takes little memory."""
_LARGEST = float((1 << 63) - (1 << 20))
"""If a sum in float64 is below this, the exact sum fits, whatever the rounding errors of any number of branches."""


def check_sum(terms: Sequence[tuple[int, torch.Tensor]]) -> None:
    """Check that sums of integers fit in 64 bits.

    Args:
        terms: The tensors that are added, all of one shape, and the factor of each.

    Raises:
        MergeError: A sum may not fit.
    """
    import torch

    flat = [(times, values.reshape(-1)) for times, values in terms]
    for start in range(0, flat[0][1].numel(), _BLOCK):
        parts = [values[start : start + _BLOCK].double() * times for times, values in flat]
        if not bool((torch.stack(parts).sum(dim=0).abs() < _LARGEST).all()):
            raise MergeError("the sum does not fit in 64 bits")
