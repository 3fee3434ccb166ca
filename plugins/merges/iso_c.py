"""Iso-C: one singular value for all directions (Marczak et al., 2025, https://arxiv.org/abs/2502.04959)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from git_theta_ext.interfaces import MergeContract, Option, astype

from ._spectral import factors, is_matrix, rank, scratch, svd
from ._vectors import added, mean_change, task_vectors, total

if TYPE_CHECKING:
    from git_theta_ext.interfaces import Array, Piece


def _numbers(rows: int, columns: int, branches: int) -> float:
    return rows * columns * (1 + max(branches, 5)) + 2 * factors(rows, columns)


class IsotropicCommon:
    """Adds the sum of the task matrices, with all of its singular values replaced by their mean.

    Zero singular values count in the mean but stay zero, because their vectors are arbitrary. Other shapes get the mean
    of the task vectors.
    """

    name = "iso_c"
    contract = MergeContract(
        needs_base=True,
        symmetric=False,
        granularity="matrix",
        options={"alpha": Option(1.0, -100.0, 100.0)},
        exact=False,
        arrays=True,
        scratch=scratch(_numbers),
        reference="https://arxiv.org/abs/2502.04959",
    )

    def __call__(self, piece: Piece) -> Array:
        """Merge one tensor; see ``git_theta_ext.interfaces.MergeMethod``."""
        if not is_matrix(piece):
            return mean_change(piece)
        matrix = total(task_vectors(piece))
        u, s, vt = svd(matrix)
        number = rank(s, matrix.shape)
        change = (u[:, :number] @ vt[:number]) * s.mean()
        return added(piece, astype(change, piece.branches[0].dtype), float(piece.options["alpha"]))


METHOD = IsotropicCommon()
