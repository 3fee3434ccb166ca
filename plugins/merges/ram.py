"""RAM: the mean over the branches that changed an element (https://arxiv.org/abs/2601.13572)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from git_theta_ext.interfaces import MergeContract, pieces

from ._overlap import EPSILON, changed, mean_of_changes
from ._vectors import added, task_vectors

if TYPE_CHECKING:
    from git_theta_ext.interfaces import Array, Piece


class ReinforcedAgentMerging:
    """Adds what one branch alone changed whole, and the mean of the changes where several branches changed an element.

    Changes of at most ``epsilon`` are none: agents that reinforcement learning trains change few elements.
    """

    name = "ram"
    contract = MergeContract(
        needs_base=True,
        symmetric=False,
        options={"epsilon": EPSILON},
        arrays=True,
        scratch=pieces(2, 2),
        reference="https://arxiv.org/abs/2601.13572",
    )

    def __call__(self, piece: Piece) -> Array:
        """Merge one piece; see ``git_theta_ext.interfaces.MergeMethod``."""
        vectors = task_vectors(piece)
        change, _ = mean_of_changes(vectors, changed(vectors, float(piece.options["epsilon"])))
        return added(piece, change, 1.0)


METHOD = ReinforcedAgentMerging()
