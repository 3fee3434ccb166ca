"""ACTMat: covariances estimated from the task vectors themselves (https://arxiv.org/abs/2604.01329)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from git_theta_ext.interfaces import MergeContract, Option

from ._spectral import is_matrix, pseudo_inverse, scratch
from ._vectors import LAMBDA, added, mean_change, task_vectors

if TYPE_CHECKING:
    from git_theta_ext.interfaces import Array, Piece

_LARGEST = 20_000


def _numbers(rows: int, columns: int, branches: int) -> float:
    covariances = 8 * columns * columns if max(rows, columns) < _LARGEST else 0
    return rows * columns * (6 + branches) + covariances


class ActMat:
    """Solves a regression in which each branch's inputs have the covariance of its task matrix's rows.

    Along directions in which all covariances are small, the solution may be many times larger than the change of any
    branch. ``cutoff`` drops the directions whose covariance is smaller than this times the largest. Matrices with a
    side of 20 000 or more, and other shapes, get the mean of the task vectors.
    """

    name = "actmat"
    contract = MergeContract(
        needs_base=True,
        symmetric=False,
        granularity="matrix",
        options={"lambda": LAMBDA, "cutoff": Option(0.0, 0.0, 1.0)},
        exact=False,
        scratch=scratch(_numbers),
        reference="https://arxiv.org/abs/2604.01329",
    )

    def __call__(self, piece: Piece) -> Array:
        """Merge one tensor; see ``git_theta_ext.interfaces.MergeMethod``."""
        import torch

        if not is_matrix(piece) or max(piece.branches[0].shape) >= _LARGEST:
            return mean_change(piece)
        side = piece.branches[0].shape[1]
        covariance = torch.zeros((side, side), dtype=torch.float64, device=piece.branches[0].device)
        weighted = torch.zeros_like(piece.branches[0], dtype=torch.float64)
        for vector in task_vectors(piece):
            wide = vector.to(torch.float64)
            own = wide.T @ wide
            covariance += own
            weighted += wide @ own
        change = weighted @ pseudo_inverse(covariance, float(piece.options["cutoff"]))
        return added(piece, change.to(piece.branches[0].dtype), float(piece.options["lambda"]))


METHOD = ActMat()
