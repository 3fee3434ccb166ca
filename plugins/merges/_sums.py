"""Sums in a fixed order: the same bits with any number of threads."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch

_ROW = 4096


def fixed_sum(values: torch.Tensor) -> torch.Tensor:
    """Add all values in float64.

    Rows of 4096 are summed each by itself, then the sums likewise: no thread ever works on a part of a row.

    Returns:
        A float64 tensor of no dimension.
    """
    import torch

    flat = values.reshape(-1).to(torch.float64)
    while flat.numel() > 1:
        missing = -flat.numel() % _ROW if flat.numel() > _ROW else 0
        flat = torch.nn.functional.pad(flat, (0, missing)).reshape(-1, min(_ROW, flat.numel() + missing)).sum(dim=1)
    return flat.reshape(()) if flat.numel() else torch.zeros((), dtype=torch.float64, device=values.device)


def dot(one: torch.Tensor, other: torch.Tensor) -> torch.Tensor:
    """Return the inner product of two tensors of one shape, in float64."""
    import torch

    return fixed_sum(one.to(torch.float64) * other.to(torch.float64))


def norm(values: torch.Tensor) -> torch.Tensor:
    """Return the Euclidean norm, in float64."""
    return dot(values, values).sqrt_()
