"""Iso-CTS: Iso-C with directions of each branch besides the common ones (https://arxiv.org/abs/2502.04959)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from git_theta_ext.interfaces import MergeContract, Option, array_namespace, astype

from ._spectral import factors, is_matrix, leading, orthogonal, rank, scratch, svd
from ._vectors import added, mean_change, task_vectors, total

if TYPE_CHECKING:
    from git_theta_ext.interfaces import Array, Piece


def _numbers(rows: int, columns: int, branches: int) -> float:
    return rows * columns * (8 + branches) + 8 * factors(rows, columns)


class IsotropicCommonAndTask:
    """Adds a matrix with one singular value for the main directions of all branches, and of each branch.

    The first singular vectors of the sum of the task matrices, the share ``common`` of all, are the common directions.
    The others are shared out between the branches: the first ones of each task matrix less its part in the common
    directions. They are made orthogonal to each other, and get the mean of their singular values. Directions that a
    task matrix does not have stay out, but count in the mean. Other shapes get the mean of the task vectors.
    """

    name = "iso_cts"
    contract = MergeContract(
        needs_base=True,
        symmetric=False,
        granularity="matrix",
        options={"common": Option(0.8, 0.0, 1.0), "alpha": Option(1.0, -100.0, 100.0)},
        exact=False,
        arrays=True,
        scratch=scratch(_numbers),
        reference="https://arxiv.org/abs/2502.04959",
    )

    def __call__(self, piece: Piece) -> Array:
        """Merge one tensor; see ``git_theta_ext.interfaces.MergeMethod``."""
        if not is_matrix(piece):
            return mean_change(piece)
        vectors = task_vectors(piece)
        xp = array_namespace(vectors[0])
        directions = min(vectors[0].shape)
        each = _each(directions, len(vectors), float(piece.options["common"]))
        u, s, vt = svd(total([astype(vectors[0], xp.float64), *vectors[1:]]))
        common = leading(u, s, vt, min(directions - each * len(vectors), rank(s, vectors[0].shape)))
        parts = [common]
        for vector in vectors if each else ():
            left = astype(vector, xp.float64)
            least = float((left * left).sum()) ** 0.5
            left -= common[0] @ (common[0].T @ left)
            u, s, vt = svd(left)
            parts.append(leading(u, s, vt, min(each, rank(s, left.shape, _LEAST * least / max(float(s[0]), _TINY)))))
        u, s, vt = (xp.concatenate(part, dim) for part, dim in zip(zip(*parts, strict=True), (1, 0, 0), strict=True))
        if not len(s):
            return piece.branches[0]
        change = orthogonal(u) @ orthogonal(vt)
        change *= float(s.sum()) / directions
        return added(piece, astype(change, piece.branches[0].dtype), float(piece.options["alpha"]))


_LEAST = 1e-6
"""Of the norm of a task matrix: what is left of it beside the common directions is rounding below that."""
_TINY = 1e-300


def _each(directions: int, branches: int, common: float) -> int:
    """Return the number of directions of each branch: those that are not common, shared out evenly."""
    own = directions - int(directions * common)
    return min(round(own / branches), directions // branches)


METHOD = IsotropicCommonAndTask()
