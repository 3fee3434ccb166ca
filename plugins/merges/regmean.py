"""RegMean: regression on the branches' outputs (Jin et al., 2022, https://arxiv.org/abs/2212.09849)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from git_theta_ext.errors import MergeError
from git_theta_ext.interfaces import MergeContract, Option, array_namespace, astype

from ._arrays import divide
from ._spectral import scratch
from ._statistics import grams, mean
from ._vectors import total

if TYPE_CHECKING:
    from git_theta_ext.interfaces import Array, Piece

KIND = "gram"

_ROUNDING = 2.0**-23
"""The precision of float32, in which the statistics are stored."""


def _numbers(rows: int, columns: int, branches: int) -> float:
    return rows * columns * (6 + 2 * branches) + columns * columns * (12 + 4 * branches)


class RegMean:
    """Finds the weight whose outputs are closest to those of each branch on that branch's own inputs.

    Needs the Gram matrix of the inputs of every Linear of every branch; its off-diagonal elements are multiplied by
    ``alpha``. Along directions without inputs, in which the sum of these matrices has no inverse, and for other
    parameters, the result is the mean.
    """

    name = "regmean"
    contract = MergeContract(
        needs_base=False,
        symmetric=False,
        granularity="matrix",
        options={"alpha": Option(0.9, 0.0, 1.0)},
        sidecars=(KIND,),
        exact=False,
        arrays=True,
        scratch=scratch(_numbers),
        reference="https://arxiv.org/abs/2212.09849",
    )

    def __call__(self, piece: Piece) -> Array:
        """Merge one tensor; see ``git_theta_ext.interfaces.MergeMethod``."""
        gram_matrices = grams(piece, KIND, 1)
        if gram_matrices is None:
            return mean(piece)
        xp = array_namespace(piece.branches[0])
        alpha = float(piece.options["alpha"])
        shrunk = [gram * alpha + xp.diag(gram.diagonal() * (1 - alpha)) for gram in gram_matrices]
        middle = divide(total([astype(branch, xp.float64) for branch in piece.branches]), len(piece.branches))
        goal = total([gram @ (branch - middle).T for gram, branch in zip(shrunk, piece.branches, strict=True)])
        return astype(middle + solved(total(shrunk), goal).T, piece.branches[0].dtype)


def solved(gram: Array, goal: Array) -> Array:
    """Solve ``gram @ X = goal``; X is zero in the null space of the Gram matrix.

    Inputs are scaled to the same size first, so that small inputs do not count as zero.

    Args:
        gram: A sum of Gram matrices of float32 precision, in float64.
        goal: A matrix in the range of ``gram``, in float64.

    Raises:
        MergeError: The eigenvalue decomposition does not converge.
    """
    xp = array_namespace(gram)
    sizes = gram.diagonal()
    scale = xp.where(sizes > 0, 1 / xp.sqrt(xp.where(sizes > 0, sizes, 1.0)), 0.0)[:, None]
    unit = gram * scale * scale.T
    _fill_diagonal(unit)
    least = _ROUNDING * len(unit) ** 0.5
    regular = _regular_solution(unit, scale * goal, least)
    if regular is not None:
        return scale * regular
    try:
        values, vectors = xp.linalg.eigh(unit)
    except xp.linalg.LinAlgError as error:
        raise MergeError("the eigenvalue decomposition of the gram statistics does not converge") from error
    inverse = xp.where(values > least, 1 / xp.where(values > least, values, 1.0), 0.0)
    return scale * (vectors @ (inverse[:, None] * (vectors.T @ (scale * goal))))


def _fill_diagonal(matrix: Array) -> None:
    """Set the diagonal of a matrix to one."""
    import numpy as np

    if isinstance(matrix, np.ndarray):
        np.fill_diagonal(matrix, 1)
    else:
        matrix.fill_diagonal_(1)


def _regular_solution(matrix: Array, goal: Array, least: float) -> Array | None:
    """Solve ``matrix @ X = goal`` for a symmetric matrix, unless it has eigenvalues that may not exceed ``least``.

    The norm of the inverse bounds its largest eigenvalue, which is one over the smallest eigenvalue of the matrix.
    """
    import numpy as np

    if not isinstance(matrix, np.ndarray):
        import torch

        factor, failed = torch.linalg.cholesky_ex(matrix)
        if int(failed) or not bool(torch.linalg.matrix_norm(torch.cholesky_inverse(factor), 1) * least < 1):
            return None
        return torch.cholesky_solve(goal, factor)
    try:
        np.linalg.cholesky(matrix)
        if not np.linalg.norm(np.linalg.inv(matrix), 1) * least < 1:
            return None
        return np.linalg.solve(matrix, goal)
    except np.linalg.LinAlgError:
        return None


METHOD = RegMean()
