"""Elementwise median of the branches."""

from __future__ import annotations

from typing import TYPE_CHECKING

from git_theta_ext.interfaces import MergeContract, pieces

if TYPE_CHECKING:
    import torch

    from git_theta_ext.interfaces import Piece


class Median:
    """The contract says what the engine may do: any piece on any device, in any order of the branches."""

    name = "median"
    contract = MergeContract(
        needs_base=False,
        symmetric=True,
        granularity="element",
        scratch=pieces(fixed=2, each=5),  # the stack, its sorted copy and the int64 indices of the sort
    )

    def __call__(self, piece: Piece) -> torch.Tensor:
        """Merge one piece; the inputs are not modified."""
        import torch

        values = torch.stack(piece.branches).sort(dim=0).values
        middle = len(piece.branches) // 2
        return values[middle].clone() if len(piece.branches) % 2 else (values[middle - 1] + values[middle]) / 2


METHOD = Median()
