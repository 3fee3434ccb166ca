"""Spherical interpolation of any number of task vectors (https://goddard.blog/posts/multislerp-wow-what-a-cool-idea/)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from git_theta_ext.interfaces import MergeContract

from ._geometry import tangent_mean
from ._vectors import added, task_vectors

if TYPE_CHECKING:
    import torch

    from git_theta_ext.interfaces import Piece


class MultiSlerp:
    """Averages the task vectors' directions in the plane that touches the sphere at their mean."""

    name = "multislerp"
    contract = MergeContract(needs_base=True, symmetric=False, granularity="matrix", weighted=True)

    def __call__(self, piece: Piece) -> torch.Tensor:
        """Merge one tensor; see ``git_theta_ext.interfaces.MergeMethod``."""
        vectors = task_vectors(piece)
        return added(piece, tangent_mean(vectors, piece.weights).to(vectors[0].dtype), 1.0)


METHOD = MultiSlerp()
