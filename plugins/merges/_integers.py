"""Sums of integers: torch wraps around without a word where one does not fit 64 bits."""

from __future__ import annotations

from typing import TYPE_CHECKING

from git_theta_ext.errors import MergeError

if TYPE_CHECKING:
    from collections.abc import Sequence

    import torch

_BLOCK = 1 << 16
"""Elements that are looked at in one go, so that this needs hardly any memory."""
_LARGEST = float((1 << 63) - (1 << 20))
"""Below this a sum in float64 shows that the exact one fits, however many branches were rounded to add them up."""


def check_sum(terms: Sequence[tuple[int, torch.Tensor]]) -> None:
    """Refuse to add up integers if a sum may not fit 64 bits.

    Args:
        terms: What is added, and how often: tensors of one shape.

    Raises:
        MergeError: A sum may not fit.
    """
    import torch

    flat = [(times, values.reshape(-1)) for times, values in terms]
    for start in range(0, flat[0][1].numel(), _BLOCK):
        parts = [values[start : start + _BLOCK].double() * times for times, values in flat]
        if not bool((torch.stack(parts).sum(dim=0).abs() < _LARGEST).all()):
            raise MergeError("the sum does not fit 64 bits")
