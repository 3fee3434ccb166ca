"""RegMean: regression on the branches' outputs (Jin et al., 2022, https://arxiv.org/abs/2212.09849)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from git_theta_ext.interfaces import MergeContract, Option

from ._statistics import grams, mean
from ._vectors import total

if TYPE_CHECKING:
    import torch

    from git_theta_ext.interfaces import Piece

KIND = "gram"


class RegMean:
    """The weight whose outputs are nearest to those of each branch on that branch's own inputs.

    Needs the Gram matrix of the inputs of every Linear of every branch, whose off-diagonal elements are made smaller by
    ``alpha``. Where the sum of the matrices has no inverse the solution of least norm is taken. Other parameters get
    the mean.
    """

    name = "regmean"
    contract = MergeContract(
        needs_base=False,
        symmetric=False,
        granularity="matrix",
        options={"alpha": Option(0.9, 0.0, 1.0)},
        sidecars=(KIND,),
        exact=False,
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
        goal = total([gram @ branch.T.double() for gram, branch in zip(shrunk, piece.branches, strict=True)])
        return solved(total(shrunk), goal).T.to(piece.branches[0].dtype)


def solved(matrix: torch.Tensor, goal: torch.Tensor) -> torch.Tensor:
    """Return X of ``matrix @ X = goal``, the one of least norm where there are several or none."""
    import torch

    solution: torch.Tensor
    solution, info = torch.linalg.solve_ex(matrix, goal)
    if int(info) or not bool(solution.isfinite().all()):
        solution = torch.linalg.pinv(matrix, hermitian=True) @ goal
    return solution


METHOD = RegMean()
