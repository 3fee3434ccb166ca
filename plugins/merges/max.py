"""Elementwise maximum, also of integers and booleans: for masks and counters."""

from __future__ import annotations

from functools import reduce
from typing import TYPE_CHECKING

from git_theta_ext.interfaces import MergeContract, array_namespace, pieces

if TYPE_CHECKING:
    from git_theta_ext.interfaces import Array, Piece


class Max:
    """Computes the elementwise maximum of the branches, also of integers and booleans."""

    name = "max"
    contract = MergeContract(needs_base=False, symmetric=True, integers=True, arrays=True, scratch=pieces(1))

    def __call__(self, piece: Piece) -> Array:
        """Merge one piece; see ``git_theta_ext.interfaces.MergeMethod``."""
        # Adding zero turns -0 into 0, so that the order of the branches does not matter.
        return reduce(array_namespace(piece.branches[0]).maximum, piece.branches) + 0


METHOD = Max()
