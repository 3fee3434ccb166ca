"""Mean weighted by Fisher information (Matena and Raffel, 2021, https://arxiv.org/abs/2111.09832)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from git_theta_ext.interfaces import MergeContract, array_namespace, astype, pieces

from ._statistics import of_all

if TYPE_CHECKING:
    from git_theta_ext.interfaces import Array, Piece

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
        arrays=True,
        sidecars=(KIND,),
        needs_sidecars=True,
        scratch=pieces(9),
        reference="https://arxiv.org/abs/2111.09832",
    )

    def __call__(self, piece: Piece) -> Array:
        """Merge one piece; see ``git_theta_ext.interfaces.MergeMethod``."""
        xp = array_namespace(piece.branches[0])
        above = xp.zeros_like(piece.branches[0], dtype=xp.float64)
        below = xp.zeros_like(above)
        for branch, information, weight in zip(piece.branches, of_all(piece, KIND), piece.weights, strict=True):
            factor = xp.clip(astype(information, xp.float64, copy=False), _FLOOR, None) * weight
            above += factor * branch
            below += factor
        return astype(above / below, piece.branches[0].dtype, copy=False)


METHOD = Fisher()
