"""TSV-M: task singular vectors, decorrelated (Gargiulo et al., 2024, https://arxiv.org/abs/2412.00081)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from git_theta_ext.interfaces import MergeContract, Option, array_namespace, astype

from ._spectral import factors, is_matrix, leading, orthogonal, rank, scratch, svd
from ._vectors import added, mean_change, task_vectors

if TYPE_CHECKING:
    from git_theta_ext.interfaces import Array, Piece


def _numbers(rows: int, columns: int, branches: int) -> float:
    return rows * columns * (3 + branches) + 6 * factors(rows, columns)


class TaskSingularVectors:
    """Concatenates the first singular vectors of all task matrices, and makes them orthogonal to each other.

    Each of n branches contributes one nth of the shorter side, at least one. Other shapes get the mean of the task
    vectors.
    """

    name = "tsv_m"
    contract = MergeContract(
        needs_base=True,
        symmetric=False,
        granularity="matrix",
        options={"alpha": Option(1.0, -100.0, 100.0)},
        exact=False,
        arrays=True,
        scratch=scratch(_numbers),
        reference="https://arxiv.org/abs/2412.00081",
    )

    def __call__(self, piece: Piece) -> Array:
        """Merge one tensor; see ``git_theta_ext.interfaces.MergeMethod``."""
        if not is_matrix(piece):
            return mean_change(piece)
        most = max(1, min(piece.branches[0].shape) // len(piece.branches))
        parts = [_leading(vector, most) for vector in task_vectors(piece)]
        xp = array_namespace(piece.branches[0])
        u, s, vt = (xp.concatenate(each, dim) for each, dim in zip(zip(*parts, strict=True), (1, 0, 0), strict=True))
        change = (orthogonal(u) * s) @ orthogonal(vt)
        return added(piece, astype(change, piece.branches[0].dtype), float(piece.options["alpha"]))


def _leading(matrix: Array, most: int) -> tuple[Array, Array, Array]:
    u, s, vt = svd(matrix)
    return leading(u, s, vt, min(most, rank(s, matrix.shape)))


METHOD = TaskSingularVectors()
