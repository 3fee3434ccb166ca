"""EMR: the unified task vector, elected signs with the largest magnitudes (https://arxiv.org/abs/2405.17461)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from git_theta_ext.interfaces import MergeContract, array_namespace, pieces

from ._vectors import LAMBDA, added, task_vectors, total

if TYPE_CHECKING:
    from git_theta_ext.interfaces import Array, Piece


class ElectedUnified:
    """Adds, for each element, the largest change in the direction of the sum of all changes.

    This is the single model of EMR-Merging. Its masks and rescalers, which turn the model into one for each task at
    run time, are no part of a merged checkpoint. If the sum is zero, the direction is negative.
    """

    name = "emr"
    contract = MergeContract(
        needs_base=True,
        symmetric=False,
        options={"lambda": LAMBDA},
        arrays=True,
        scratch=pieces(2, 1),
        reference="https://arxiv.org/abs/2405.17461",
    )

    def __call__(self, piece: Piece) -> Array:
        """Merge one piece; see ``git_theta_ext.interfaces.MergeMethod``."""
        vectors = task_vectors(piece)
        xp = array_namespace(vectors[0])
        signs = total(vectors)
        xp.sign(signs, out=signs)
        signs -= 0.5
        xp.sign(signs, out=signs)
        size = xp.zeros_like(signs)
        for vector in vectors:
            xp.maximum(size, vector * signs, out=size)
        size *= signs
        return added(piece, size, float(piece.options["lambda"]))


METHOD = ElectedUnified()
