"""Spherical interpolation of any number of task vectors (https://goddard.blog/posts/multislerp-wow-what-a-cool-idea/)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from git_theta_ext.interfaces import MergeContract

from ._geometry import mean_direction
from ._sums import combined, gram, scratch
from ._vectors import added, task_vectors

if TYPE_CHECKING:
    from git_theta_ext.interfaces import Array, Piece


class MultiSlerp:
    """Adds the mean of the task vectors' directions, with the mean of their norms as its norm.

    The method is defined in the tangent plane of the sphere at this mean: directions are projected to the plane,
    averaged, and projected back. Since their projections add up to zero, the result is the mean itself.
    """

    name = "multislerp"
    contract = MergeContract(
        needs_base=True, symmetric=False, granularity="matrix", arrays=True, weighted=True, scratch=scratch(1)
    )

    def __call__(self, piece: Piece) -> Array:
        """Merge one tensor; see ``git_theta_ext.interfaces.MergeMethod``."""
        vectors = task_vectors(piece)
        return added(piece, combined(vectors, mean_direction(gram(vectors), piece.weights)), 1.0)


METHOD = MultiSlerp()
