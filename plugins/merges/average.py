"""Weighted mean of the branches: model soups (Wortsman et al., 2022, https://arxiv.org/abs/2203.05482)."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from git_theta_ext.errors import MergeError
from git_theta_ext.interfaces import MergeContract

from ._division import divided

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    import torch

    from git_theta_ext.interfaces import Piece

_PAIR = 2


def _numbers(shape: Sequence[int], branches: int) -> float:
    return math.prod(shape) * (6 * branches if branches > _PAIR else 6)


class Average:
    """Computes the elementwise mean, weighted if weights are given."""

    name = "average"
    contract = MergeContract(
        needs_base=False,
        symmetric=True,
        weighted=True,
        scratch=_numbers,
        reference="https://arxiv.org/abs/2203.05482",
    )

    def __call__(self, piece: Piece) -> torch.Tensor:
        """Return the mean of the branches.

        The sum is in float64, so that the mean of n equal values is that value, and float32 values do not overflow.
        With three or more branches, the terms of each element are added in ascending order, so that the order of the
        branches does not matter.

        Raises:
            MergeError: All weights are zero.
        """
        import torch

        divisor = sum(sorted(piece.weights))
        if not divisor:
            raise MergeError("all branches that changed it have weight 0")
        terms: Iterator[torch.Tensor] = (
            branch if weight == 1 else branch.to(torch.float64) * weight
            for branch, weight in zip(piece.branches, piece.weights, strict=True)
        )
        if len(piece.branches) > _PAIR:
            terms = iter(torch.stack([term.to(torch.float64) for term in terms]).sort(dim=0).values.unbind())
        total = next(terms).to(torch.float64, copy=True)
        for term in terms:
            total += term
        return divided(total, divisor).to(piece.branches[0].dtype)


METHOD = Average()
