"""RAM+: RAM with what one branch alone changed scaled up by what it shares (https://arxiv.org/abs/2601.13572)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from git_theta_ext.interfaces import MergeContract, Option, array_namespace, astype, pieces

from ._overlap import EPSILON, changed, mean_of_changes
from ._vectors import added, task_vectors

if TYPE_CHECKING:
    from git_theta_ext.interfaces import Array, Piece

_SEVERAL = 2


class ReinforcedAgentMergingPlus:
    """Merges as ``ram`` does, and scales what a branch alone changed by 1 + r min(rho, alpha).

    The mean weakens the changes that a branch shares with others. For each branch and tensor, rho is the number of
    elements that it shares divided by the number of those that it alone changed.
    """

    name = "ram_plus"
    contract = MergeContract(
        needs_base=True,
        symmetric=False,
        granularity="matrix",
        options={"r": Option(0.1, 0.0, 100.0), "alpha": Option(0.2, 0.0, 100.0), "epsilon": EPSILON},
        arrays=True,
        scratch=pieces(4, 2),
        reference="https://arxiv.org/abs/2601.13572",
    )

    def __call__(self, piece: Piece) -> Array:
        """Merge one tensor; see ``git_theta_ext.interfaces.MergeMethod``."""
        vectors = task_vectors(piece)
        xp = array_namespace(vectors[0])
        masks = changed(vectors, float(piece.options["epsilon"]))
        change, users = mean_of_changes(vectors, masks)
        single = astype(users < _SEVERAL, users.dtype)
        for vector, mask in zip(vectors, masks, strict=True):
            own = mask * single
            alone = int(xp.count_nonzero(own))
            rho = (int(xp.count_nonzero(mask)) - alone) / max(alone, 1)
            own *= vector
            own *= float(piece.options["r"]) * min(rho, float(piece.options["alpha"]))
            change += own
        return added(piece, change, 1.0)


METHOD = ReinforcedAgentMergingPlus()
