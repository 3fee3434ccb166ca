"""RegMean: regression on the branches' outputs (Jin et al., 2022, https://arxiv.org/abs/2212.09849)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from git_theta_ext.errors import MergeError
from git_theta_ext.interfaces import MergeContract, Option

from ._arrays import divide
from ._spectral import scratch
from ._statistics import grams, mean
from ._vectors import total

if TYPE_CHECKING:
    import torch

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
        scratch=scratch(_numbers),
        reference="https://arxiv.org/abs/2212.09849",
    )

    def __call__(self, piece: Piece) -> Array:
        """Merge one tensor; see ``git_theta_ext.interfaces.MergeMethod``."""
        import torch

        gram_matrices = grams(piece, KIND, 1)
        if gram_matrices is None:
            return mean(piece)
        alpha = float(piece.options["alpha"])
        shrunk = [gram * alpha + torch.diag(gram.diagonal() * (1 - alpha)) for gram in gram_matrices]
        middle = divide(total([branch.double() for branch in piece.branches]), len(piece.branches))
        goal = total([gram @ (branch - middle).T for gram, branch in zip(shrunk, piece.branches, strict=True)])
        return (middle + solved(total(shrunk), goal).T).to(piece.branches[0].dtype)


def solved(gram: torch.Tensor, goal: torch.Tensor) -> torch.Tensor:
    """Solve ``gram @ X = goal``; X is zero in the null space of the Gram matrix.

    Inputs are scaled to the same size first, so that small inputs do not count as zero.

    Args:
        gram: A sum of Gram matrices of float32 precision, in float64.
        goal: A matrix in the range of ``gram``, in float64.

    Raises:
        MergeError: The eigenvalue decomposition does not converge.
    """
    import torch

    sizes = gram.diagonal()
    scale = torch.where(sizes > 0, sizes.rsqrt(), 0)[:, None]
    unit = (gram * scale * scale.T).fill_diagonal_(1)
    least = _ROUNDING * len(unit) ** 0.5
    factor, failed = torch.linalg.cholesky_ex(unit)
    # The norm of the inverse bounds its largest eigenvalue, which is one over the smallest eigenvalue of the matrix.
    if not int(failed) and bool(torch.linalg.matrix_norm(torch.cholesky_inverse(factor), 1) * least < 1):
        return scale * torch.cholesky_solve(scale * goal, factor)
    try:
        values, vectors = torch.linalg.eigh(unit)
    except torch.linalg.LinAlgError as error:  # type: ignore[attr-defined]
        raise MergeError("the eigenvalue decomposition of the gram statistics does not converge") from error
    inverse = torch.where(values > least, 1 / values, 0)
    solution: torch.Tensor = scale * (vectors @ (inverse[:, None] * (vectors.T @ (scale * goal))))
    return solution


METHOD = RegMean()
