"""Elementwise maximum, also of integers and booleans: for masks and counters."""

from __future__ import annotations

from functools import reduce
from typing import TYPE_CHECKING

from git_theta_ext.interfaces import MergeContract, pieces

if TYPE_CHECKING:
    import torch

    from git_theta_ext.interfaces import Piece


class Max:
    """Computes the elementwise maximum of the branches, also of integers and booleans."""

    name = "max"
    contract = MergeContract(needs_base=False, symmetric=True, integers=True, scratch=pieces(1))

    def __call__(self, piece: Piece) -> torch.Tensor:
        """Merge one piece; see ``git_theta_ext.interfaces.MergeMethod``."""
        import torch

        # Adding zero turns -0 into 0, so that the order of the branches does not matter.
        return reduce(torch.maximum, piece.branches) + 0


METHOD = Max()
