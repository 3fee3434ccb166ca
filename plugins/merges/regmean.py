"""RegMean: regression on the branches' outputs (Jin et al., 2022, https://arxiv.org/abs/2212.09849)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from git_theta_ext.errors import MergeError
from git_theta_ext.interfaces import MergeContract, Option

from ._division import divided
from ._spectral import scratch
from ._statistics import grams, mean
from ._vectors import total

if TYPE_CHECKING:
    import torch

    from git_theta_ext.interfaces import Piece

KIND = "gram"

_ROUNDING = 2.0**-23
"""Of float32, in which the statistics are kept."""


def _numbers(rows: int, columns: int, branches: int) -> float:
    return rows * columns * (6 + 2 * branches) + columns * columns * (12 + 4 * branches)


class RegMean:
    """The weight whose outputs are nearest to those of each branch on that branch's own inputs.

    Needs the Gram matrix of the inputs of every Linear of every branch, whose off-diagonal elements are made smaller by
    ``alpha``. Where no branch's inputs tell anything, and their sum therefore has no inverse, the mean stays. Other
    parameters get the mean.
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

    def __call__(self, piece: Piece) -> torch.Tensor:
        """Merge one tensor; see ``git_theta_ext.interfaces.MergeMethod``."""
        import torch

        found = grams(piece, KIND, 1)
        if found is None:
            return mean(piece)
        alpha = float(piece.options["alpha"])
        shrunk = [gram * alpha + torch.diag(gram.diagonal() * (1 - alpha)) for gram in found]
        middle = divided(total([branch.double() for branch in piece.branches]), len(piece.branches))
        goal = total([gram @ (branch - middle).T for gram, branch in zip(shrunk, piece.branches, strict=True)])
        return (middle + solved(total(shrunk), goal).T).to(piece.branches[0].dtype)


def solved(gram: torch.Tensor, goal: torch.Tensor) -> torch.Tensor:
    """Return X of ``gram @ X = goal``, zero along what the Gram matrix says nothing of.

    Inputs are scaled to the same size first, so that small ones do not count as nothing.

    Args:
        gram: A sum of Gram matrices of float32 precision, in float64.
        goal: Rows that the matrix can make, in float64.

    Raises:
        MergeError: The matrix's eigenvalues are not found.
    """
    import torch

    sizes = gram.diagonal()
    scale = torch.where(sizes > 0, sizes.rsqrt(), 0)[:, None]
    unit = (gram * scale * scale.T).fill_diagonal_(1)
    least = _ROUNDING * len(unit) ** 0.5
    factor, failed = torch.linalg.cholesky_ex(unit)
    # The norm of the inverse bounds its largest eigenvalue, one over the smallest of the matrix.
    if not int(failed) and bool(torch.linalg.matrix_norm(torch.cholesky_inverse(factor), 1) * least < 1):
        return scale * torch.cholesky_solve(scale * goal, factor)
    try:
        values, vectors = torch.linalg.eigh(unit)
    except torch.linalg.LinAlgError as error:  # type: ignore[attr-defined]
        raise MergeError("the eigenvalues of the gram statistics are not found") from error
    inverse = torch.where(values > least, 1 / values, 0)
    solution: torch.Tensor = scale * (vectors @ (inverse[:, None] * (vectors.T @ (scale * goal))))
    return solution


METHOD = RegMean()
