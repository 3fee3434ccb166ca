"""Spherical linear interpolation of two task vectors (mergekit, https://github.com/arcee-ai/mergekit)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from git_theta_ext.interfaces import MergeContract

from ._geometry import shares, slerp
from ._sums import combined, gram, scratch
from ._vectors import added, task_vectors

if TYPE_CHECKING:
    from git_theta_ext.interfaces import Array, Piece


class NuSlerp:
    """Interpolates from one task vector to the other along an arc, by the second one's share of the weights."""

    name = "nuslerp"
    contract = MergeContract(
        needs_base=True,
        symmetric=False,
        granularity="matrix",
        arrays=True,
        weighted=True,
        branches=(2, 2),
        scratch=scratch(1),
    )

    def __call__(self, piece: Piece) -> Array:
        """Merge one tensor; see ``git_theta_ext.interfaces.MergeMethod``."""
        vectors = task_vectors(piece)
        factors = slerp(gram(vectors), shares(piece.weights)[1])
        return added(piece, combined(vectors, factors), 1.0)


METHOD = NuSlerp()
