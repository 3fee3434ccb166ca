"""Weighted sum of the models, with weights that need not add up to 1 (https://arxiv.org/abs/2203.05482)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from git_theta_ext.interfaces import MergeContract, astype

from ._weighted_sum import scratch, weighted_sum

if TYPE_CHECKING:
    from git_theta_ext.interfaces import Array, Piece


class Linear:
    """Multiplies each branch by its weight, which may be negative, and adds them; ``average`` also divides by the sum.

    Without weights each branch counts 1, so that it is their sum.
    """

    name = "linear"
    contract = MergeContract(
        needs_base=False,
        symmetric=True,
        weighted=True,
        negative_weights=True,
        arrays=True,
        scratch=scratch,
        reference="https://arxiv.org/abs/2203.05482",
    )

    def __call__(self, piece: Piece) -> Array:
        """Merge one piece; see ``git_theta_ext.interfaces.MergeMethod``."""
        return astype(weighted_sum(piece), piece.branches[0].dtype, copy=False)


METHOD = Linear()
