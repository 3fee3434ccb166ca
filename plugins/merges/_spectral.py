"""What methods that decompose matrices share.

Decompositions are LAPACK's or cuSOLVER's, in float64 whatever the size: another build, another number of threads or
another device may round otherwise. Products of their factors differ by some units in the last place of float64, which a
float32 result seldom shows. Vectors of singular values that are nothing but rounding are arbitrary; they are left out,
as with them machines would come to quite different results.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from git_theta_ext.errors import MergeError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    import torch

    from git_theta_ext.interfaces import Piece, Scratch

_MATRIX = 2

_EPSILON = 2.0**-52

_DEPENDENT = 1e-6
"""Relative to the largest singular value: task vectors are differences of float32 values, and their singular vectors
agree no better even where the branches made the same change."""


def scratch(of_matrix: Callable[[int, int, int], float]) -> Scratch:
    """Return the scratch of a method that decomposes matrices, and gives all else the mean of the task vectors.

    Args:
        of_matrix: From rows, columns and the number of branches to numbers. As the rest of ``MergeContract.scratch``
            it counts a float64 as two; what decompositions take for themselves is not in it.
    """

    def numbers(shape: Sequence[int], branches: int) -> float:
        if len(shape) != _MATRIX:
            return math.prod(shape) * (1 + branches)
        return of_matrix(shape[0], shape[1], branches)

    return numbers


def factors(rows: int, columns: int) -> int:
    """Return how many numbers the two factors of a thin decomposition have."""
    return min(rows, columns) * (rows + columns)


def is_matrix(piece: Piece) -> bool:
    """Tell whether a tensor has two dimensions and something in it."""
    return piece.branches[0].dim() == _MATRIX and piece.branches[0].numel() > 0


def svd(matrix: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Return the thin singular value decomposition U, S, Vᵀ in float64.

    Raises:
        MergeError: It does not converge.
    """
    import torch

    try:
        u, s, vt = torch.linalg.svd(matrix.to(torch.float64), full_matrices=False)
    except torch.linalg.LinAlgError as error:  # type: ignore[attr-defined]
        raise MergeError("the singular value decomposition does not converge") from error
    return u, s, vt


def pseudo_inverse(matrix: torch.Tensor, least: float = 0.0) -> torch.Tensor:
    """Return the pseudo-inverse of a symmetric matrix; eigenvalues that are nothing but rounding count as zero.

    Args:
        matrix: In float64.
        least: Those count as zero too that are not larger than this times the largest.

    Raises:
        MergeError: Its decomposition does not converge.
    """
    import torch

    least = max(least, max(matrix.shape) * _EPSILON)
    try:
        inverse: torch.Tensor = torch.linalg.pinv(matrix, rtol=least, hermitian=True)
    except torch.linalg.LinAlgError as error:  # type: ignore[attr-defined]
        raise MergeError("the eigenvalue decomposition does not converge") from error
    return inverse


def rank(s: torch.Tensor, shape: tuple[int, ...], least: float = 0.0) -> int:
    """Count the singular values that are more than rounding.

    Args:
        s: Singular values, in descending order.
        shape: Of the matrix.
        least: Those do not count either that are not larger than this times the largest.
    """
    return int((s > s[:1] * max(least, max(shape) * _EPSILON)).sum())


def noise(s: torch.Tensor, shape: tuple[int, ...]) -> torch.Tensor:
    """Return how large those elements of singular vectors may be that would be zero without rounding.

    Args:
        s: Singular values, in descending order along the first dimension.
        shape: Of the matrix.
    """
    return s[:1] / s * (max(shape) * _EPSILON)


def orthogonal(matrix: torch.Tensor) -> torch.Tensor:
    """Return P Qᵀ of the decomposition P D Qᵀ: the nearest matrix with orthonormal rows or columns.

    Of rows or columns that depend on each other it is the nearest partial isometry, which is the same for all bases of
    what they lack.
    """
    u, s, vt = svd(matrix)
    number = rank(s, matrix.shape, _DEPENDENT)
    return u[:, :number] @ vt[:number]
