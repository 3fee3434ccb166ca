"""Functions for methods that decompose matrices.

Decompositions are those of LAPACK or cuSOLVER, always in float64. Another build, number of threads or device may round
differently: products of their factors then differ in the last places of float64, which a float32 result rarely shows.
Singular vectors whose singular values are rounding errors are arbitrary. They are dropped, because with them results
would differ a lot between machines.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from git_theta_ext.errors import MergeError
from git_theta_ext.interfaces import array_namespace, astype

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    import torch

    from git_theta_ext.interfaces import Array, Piece, Scratch

_MATRIX = 2

_EPSILON = 2.0**-52

_DEPENDENT = 1e-6
"""Relative to the largest singular value. Task vectors are differences of float32 values, so their singular vectors do
not agree more closely, even if the branches made the same change."""


def scratch(of_matrix: Callable[[int, int, int], float]) -> Scratch:
    """Return the scratch of a method that decomposes matrices, and uses the mean of the task vectors for other shapes.

    Args:
        of_matrix: Function from rows, columns and the number of branches to numbers. As in ``MergeContract.scratch``, a
            float64 counts as two, and the workspace of decompositions is not included.
    """

    def numbers(shape: Sequence[int], branches: int) -> float:
        if len(shape) != _MATRIX:
            return math.prod(shape) * (1 + branches)
        return of_matrix(shape[0], shape[1], branches)

    return numbers


def factors(rows: int, columns: int) -> int:
    """Return the number of elements in the two factors of a thin decomposition."""
    return min(rows, columns) * (rows + columns)


def is_matrix(piece: Piece) -> bool:
    """Return whether a tensor has two dimensions and is not empty."""
    return len(piece.branches[0].shape) == _MATRIX and math.prod(piece.branches[0].shape) > 0


def svd(matrix: Array) -> tuple[Array, Array, Array]:
    """Return the thin singular value decomposition U, S, Vᵀ in float64.

    Raises:
        MergeError: It does not converge.
    """
    xp = array_namespace(matrix)
    try:
        u, s, vt = xp.linalg.svd(astype(matrix, xp.float64, copy=False), full_matrices=False)
    except xp.linalg.LinAlgError as error:
        raise MergeError("the singular value decomposition does not converge") from error
    return u, s, vt


def pseudo_inverse(matrix: torch.Tensor, least: float = 0.0) -> torch.Tensor:
    """Return the pseudo-inverse of a symmetric matrix; eigenvalues that are rounding errors count as zero.

    Args:
        matrix: The matrix, in float64.
        least: Eigenvalues of at most this times the largest also count as zero.

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


def rank(s: Array, shape: tuple[int, ...], least: float = 0.0) -> int:
    """Count the singular values that are not rounding errors.

    Args:
        s: Singular values, in descending order.
        shape: Shape of the matrix.
        least: Singular values of at most this times the largest do not count either.
    """
    return int((s > s[:1] * max(least, max(shape) * _EPSILON)).sum())


def leading(u: Array, s: Array, vt: Array, number: int) -> tuple[Array, Array, Array]:
    """Return the first components of a decomposition, as copies that do not keep the others in memory."""
    return astype(u[:, :number], u.dtype), astype(s[:number], s.dtype), astype(vt[:number], vt.dtype)


def noise(s: Array, shape: tuple[int, ...]) -> Array:
    """Return the largest rounding error of elements of singular vectors that should be zero.

    Args:
        s: Singular values, in descending order along the first dimension.
        shape: Shape of the matrix.
    """
    return s[:1] / s * (max(shape) * _EPSILON)


def orthogonal(matrix: Array) -> Array:
    """Return P Qᵀ of the decomposition P D Qᵀ: the nearest matrix with orthonormal rows or columns.

    If rows or columns are linearly dependent, it is the nearest partial isometry, which does not depend on the choice
    of a basis.
    """
    u, s, vt = svd(matrix)
    number = rank(s, matrix.shape, _DEPENDENT)
    return u[:, :number] @ vt[:number]
