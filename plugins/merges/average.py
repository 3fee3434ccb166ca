"""Weighted mean of the branches: model soups (Wortsman et al., 2022, https://arxiv.org/abs/2203.05482)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from git_theta_ext.errors import MergeError
from git_theta_ext.interfaces import Fusion, MergeContract, astype

from ._arrays import divide
from ._weighted_sum import scratch, weighted_sum

if TYPE_CHECKING:
    from git_theta_ext.interfaces import Array, Piece


class Average:
    """Computes the elementwise mean, weighted if weights are given."""

    name = "average"
    contract = MergeContract(
        needs_base=False,
        symmetric=True,
        weighted=True,
        arrays=True,
        scratch=scratch,
        reference="https://arxiv.org/abs/2203.05482",
        fused=lambda _: Fusion("mean"),
    )

    def __call__(self, piece: Piece) -> Array:
        """Return the mean of the branches.

        The sum is in float64, so that the mean of n equal values is that value, and float32 values do not overflow.

        Raises:
            MergeError: All weights are zero.
        """
        divisor = sum(sorted(piece.weights))
        if not divisor:
            raise MergeError("all branches that changed it have weight 0")
        return astype(divide(weighted_sum(piece), divisor), piece.branches[0].dtype, copy=False)


METHOD = Average()
