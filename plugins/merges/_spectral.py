"""What methods that decompose matrices share.

Decompositions are LAPACK's, in float64: another build of it, another number of threads or another device may round
otherwise. Products of their factors differ by some units in the last place of float64, which a float32 result seldom
shows.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from git_theta_ext.errors import MergeError

if TYPE_CHECKING:
    import torch

    from git_theta_ext.interfaces import Piece

_MATRIX = 2


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
    except RuntimeError as error:
        raise MergeError("the singular value decomposition does not converge") from error
    return u, s, vt


def orthogonal(matrix: torch.Tensor) -> torch.Tensor:
    """Return the nearest matrix with orthonormal rows or columns: P Qᵀ of the decomposition P D Qᵀ."""
    u, _, vt = svd(matrix)
    return u @ vt
