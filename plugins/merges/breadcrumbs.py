"""Model breadcrumbs: drop outliers and noise (Davari and Belilovsky, 2023, https://arxiv.org/abs/2312.06795)."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from git_theta_ext.interfaces import MergeContract, Option, pieces

from ._arrays import clear, largest
from ._elect import LINEAR, election, summed_or_elected
from ._vectors import LAMBDA, added, task_vectors, weighted

if TYPE_CHECKING:
    from git_theta_ext.interfaces import Array, Piece


class Breadcrumbs:
    """Drops the largest and the smallest changes of every tensor, and adds the others, or elects signs as TIES does."""

    name = "breadcrumbs"
    contract = MergeContract(
        needs_base=True,
        symmetric=False,
        granularity="matrix",
        options={
            "density": Option(0.9, 1e-9, 1.0),
            "gamma": Option(0.01, 0.0, 1.0),
            "election": election(LINEAR),
            "lambda": LAMBDA,
        },
        weighted=True,
        arrays=True,
        scratch=pieces(7, 1),
        reference="https://arxiv.org/abs/2312.06795",
    )

    def __call__(self, piece: Piece) -> Array:
        """Merge one tensor; see ``git_theta_ext.interfaces.MergeMethod``."""
        density, gamma = (float(piece.options[name]) for name in ("density", "gamma"))
        vectors = [masked(vector, density, gamma) for vector in task_vectors(piece)]
        change = summed_or_elected(piece, weighted(vectors, piece.weights))
        return added(piece, change, float(piece.options["lambda"]))


def masked(vector: Array, density: float, gamma: float) -> Array:
    """Keep a share of the elements: the largest ones after dropping another share, of the largest of all.

    If the two shares exceed all elements, fewer of the largest are dropped. Equal elements rank by their index.
    """
    count = math.prod(vector.shape)
    kept = int(density * count)
    dropped = min(int(gamma * count), count - kept)
    sizes = abs(vector).reshape(-1)
    mask = largest(sizes, dropped + kept)
    mask ^= largest(sizes, dropped)
    return clear(vector, ~mask.reshape(vector.shape))


METHOD = Breadcrumbs()
