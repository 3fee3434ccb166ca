"""MagMax: each element from the branch that changed it most (https://arxiv.org/abs/2407.06322)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from git_theta_ext.interfaces import MergeContract, array_namespace, pieces

from ._arrays import clear
from ._vectors import LAMBDA, added, task_vectors

if TYPE_CHECKING:
    from git_theta_ext.interfaces import Array, Piece


class MagMax:
    """Adds the change of the largest magnitude; of equal and opposite ones the positive one."""

    name = "magmax"
    contract = MergeContract(
        needs_base=True,
        symmetric=True,
        options={"lambda": LAMBDA},
        arrays=True,
        scratch=pieces(2.5, 1),
        reference="https://arxiv.org/abs/2407.06322",
    )

    def __call__(self, piece: Piece) -> Array:
        """Merge one piece; see ``git_theta_ext.interfaces.MergeMethod``."""
        xp = array_namespace(piece.branches[0])
        first, *others = task_vectors(piece)
        highest, lowest = first, first + 0
        for vector in others:
            xp.maximum(highest, vector, out=highest)
            xp.minimum(lowest, vector, out=lowest)
        lowest_wins = abs(lowest) > abs(highest)
        change = clear(highest, lowest_wins)
        change += clear(lowest, ~lowest_wins)
        return added(piece, change, float(piece.options["lambda"]))


METHOD = MagMax()
