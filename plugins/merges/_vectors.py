"""Task vectors: the changes of the branches (Ilharco et al., 2023, https://arxiv.org/abs/2212.04089)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from git_theta_ext.interfaces import Option, astype

from ._arrays import divide

if TYPE_CHECKING:
    from git_theta_ext.interfaces import Array, Piece

LAMBDA = Option(1.0, -100.0, 100.0)
"""The factor of the merged task vector."""


def base_of(piece: Piece) -> Array:
    """Return the common ancestor's values, which the contract requires."""
    assert piece.base is not None
    return piece.base


def task_vectors(piece: Piece) -> list[Array]:
    """Return each branch minus the base, as new arrays, without weights."""
    return [branch - base_of(piece) for branch in piece.branches]


def weighted(vectors: list[Array], weights: tuple[float, ...]) -> list[Array]:
    """Multiply each vector by its weight, in place."""
    return [_scaled(vector, weight) for vector, weight in zip(vectors, weights, strict=True)]


def total(vectors: list[Array]) -> Array:
    """Return the sum, in the order of the branches, as a new array."""
    result = astype(vectors[0], vectors[0].dtype)
    for vector in vectors[1:]:
        result += vector
    return result


def mean_change(piece: Piece) -> Array:
    """Return the base plus the mean of the task vectors, which methods for matrices use for other shapes."""
    return added(piece, divide(total(task_vectors(piece)), len(piece.branches)), 1.0)


def _scaled(vector: Array, weight: float) -> Array:
    if weight != 1:
        vector *= weight
    return vector


def added(piece: Piece, change: Array, scale: float) -> Array:
    """Return the base plus a scaled change, which may be overwritten."""
    if scale != 1:
        change *= scale
    change += base_of(piece)
    return change
