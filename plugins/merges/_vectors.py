"""Task vectors: the changes of the branches (Ilharco et al., 2023, https://arxiv.org/abs/2212.04089)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from git_theta_ext.interfaces import Option

from ._division import divided

if TYPE_CHECKING:
    import torch

    from git_theta_ext.interfaces import Piece

LAMBDA = Option(1.0, -100.0, 100.0)
"""The factor of the merged task vector."""


def base_of(piece: Piece) -> torch.Tensor:
    """Return the common ancestor's values, which the contract requires."""
    assert piece.base is not None
    return piece.base


def task_vectors(piece: Piece) -> list[torch.Tensor]:
    """Return each branch minus the base, as new tensors, without weights."""
    return [branch - base_of(piece) for branch in piece.branches]


def weighted(vectors: list[torch.Tensor], weights: tuple[float, ...]) -> list[torch.Tensor]:
    """Multiply each vector by its weight, in place."""
    return [vector.mul_(weight) if weight != 1 else vector for vector, weight in zip(vectors, weights, strict=True)]


def total(vectors: list[torch.Tensor]) -> torch.Tensor:
    """Return the sum, in the order of the branches, as a new tensor."""
    result = vectors[0].clone()
    for vector in vectors[1:]:
        result += vector
    return result


def mean_change(piece: Piece) -> torch.Tensor:
    """Return the base plus the mean of the task vectors, which methods for matrices use for other shapes."""
    return added(piece, divided(total(task_vectors(piece)), len(piece.branches)), 1.0)


def added(piece: Piece, change: torch.Tensor, scale: float) -> torch.Tensor:
    """Return the base plus a scaled change, which may be overwritten."""
    if scale != 1:
        change *= scale
    change += base_of(piece)
    return change
