"""Mean weighted by Fisher information (Matena and Raffel, 2021, https://arxiv.org/abs/2111.09832)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from git_theta_ext.interfaces import MergeContract, pieces

from ._statistics import of_all

if TYPE_CHECKING:
    import torch

    from git_theta_ext.interfaces import Piece

KIND = "fisher"
_FLOOR = 1e-8


class Fisher:
    """Averages the branches, with each element weighted by how much the loss of its branch depends on it.

    Needs the mean squared gradient of every parameter of every branch; values below 1e-8 count as 1e-8.
    """

    name = "fisher"
    contract = MergeContract(
        needs_base=False,
        symmetric=False,
        weighted=True,
        sidecars=(KIND,),
        scratch=pieces(9),
        reference="https://arxiv.org/abs/2111.09832",
    )

    def __call__(self, piece: Piece) -> torch.Tensor:
        """Merge one piece; see ``git_theta_ext.interfaces.MergeMethod``."""
        import torch

        above = torch.zeros_like(piece.branches[0], dtype=torch.float64)
        below = torch.zeros_like(above)
        for branch, information, weight in zip(piece.branches, of_all(piece, KIND), piece.weights, strict=True):
            factor = information.to(torch.float64).clamp_min(_FLOOR) * weight
            above += factor * branch
            below += factor
        return (above / below).to(piece.branches[0].dtype)


METHOD = Fisher()
