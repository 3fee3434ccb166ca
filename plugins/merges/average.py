"""Weighted mean of the branches: model soups (Wortsman et al., 2022, https://arxiv.org/abs/2203.05482)."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from git_theta_ext.errors import MergeError
from git_theta_ext.interfaces import Fusion, MergeContract, array_namespace, astype

from ._arrays import divide
from ._ascending import ascending

if TYPE_CHECKING:
    from collections.abc import Sequence

    from git_theta_ext.interfaces import Array, Piece

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
        arrays=True,
        scratch=_numbers,
        reference="https://arxiv.org/abs/2203.05482",
        fused=lambda _: Fusion("mean"),
    )

    def __call__(self, piece: Piece) -> Array:
        """Return the mean of the branches.

        The sum is in float64, so that the mean of n equal values is that value, and float32 values do not overflow.
        With three or more branches, the terms of each element are added in ascending order, so that the order of the
        branches does not matter.

        Raises:
            MergeError: All weights are zero.
        """
        divisor = sum(sorted(piece.weights))
        if not divisor:
            raise MergeError("all branches that changed it have weight 0")
        xp = array_namespace(piece.branches[0])
        terms = [
            branch if weight == 1 else astype(branch, xp.float64) * weight
            for branch, weight in zip(piece.branches, piece.weights, strict=True)
        ]
        if len(terms) > _PAIR:
            alike = len({term.dtype for term in terms}) == 1
            terms = ascending(terms if alike else [astype(term, xp.float64, copy=False) for term in terms])
        total = astype(terms[0], xp.float64)
        for term in terms[1:]:
            total += term
        return astype(divide(total, divisor), piece.branches[0].dtype, copy=False)


METHOD = Average()
