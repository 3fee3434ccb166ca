"""Spherical interpolation of any number of task vectors (https://goddard.blog/posts/multislerp-wow-what-a-cool-idea/)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from git_theta_ext.interfaces import MergeContract

from ._geometry import mean_direction
from ._sums import combined, gram, scratch
from ._vectors import added, task_vectors

if TYPE_CHECKING:
    import torch

    from git_theta_ext.interfaces import Piece


class MultiSlerp:
    """Adds the mean of the task vectors' directions, as long as the mean of their norms.

    It is defined by the plane that touches the sphere at this mean: the directions are projected to the plane, averaged
    there and brought back. As their projections add up to nothing, that leads to the mean itself.
    """

    name = "multislerp"
    contract = MergeContract(needs_base=True, symmetric=False, granularity="matrix", weighted=True, scratch=scratch(1))

    def __call__(self, piece: Piece) -> torch.Tensor:
        """Merge one tensor; see ``git_theta_ext.interfaces.MergeMethod``."""
        vectors = task_vectors(piece)
        return added(piece, combined(vectors, mean_direction(gram(vectors), piece.weights)), 1.0)


METHOD = MultiSlerp()
