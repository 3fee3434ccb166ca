"""DELLA: drop by rank of magnitude in the row (Deep et al., 2024, https://arxiv.org/abs/2406.11617)."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from git_theta_ext.interfaces import MergeContract, Option, array_namespace, astype, pieces

from . import _random
from ._arrays import clear, positions, stable_order
from ._elect import TIES, election, summed_or_elected
from ._vectors import LAMBDA, added, task_vectors, weighted

if TYPE_CHECKING:
    from git_theta_ext.interfaces import Array, Piece


class Della:
    """Keeps each change with a probability that grows with its rank in its row, and elects signs as TIES does, or adds.

    In a row of c elements, the element of rank r (the smallest has rank 1) is kept with probability density - epsilon +
    2 epsilon (r - 1) / (c - 1), and divided by it. All dimensions after the first form a row; a vector is one row.
    """

    name = "della"
    contract = MergeContract(
        needs_base=True,
        symmetric=False,
        granularity="row",
        options={
            "density": Option(0.5, 1e-3, 1.0),
            "epsilon": Option(0.15, 0.0, 0.5),
            "election": election(TIES),
            "lambda": LAMBDA,
            "seed": _random.SEED,
        },
        weighted=True,
        arrays=True,
        stochastic=True,
        scratch=pieces(14, 2),
        reference="https://arxiv.org/abs/2406.11617",
    )

    def __call__(self, piece: Piece) -> Array:
        """Merge one piece; see ``git_theta_ext.interfaces.MergeMethod``."""
        density, epsilon = (float(piece.options[name]) for name in ("density", "epsilon"))
        vectors = []
        for vector, key in zip(task_vectors(piece), piece.keys, strict=True):
            kept = keeping(vector, density, epsilon)
            vectors.append(clear(vector / kept, _random.uniform(key, piece.start, vector) >= kept))
        change = summed_or_elected(piece, weighted(vectors, piece.weights))
        return added(piece, change, float(piece.options["lambda"]))


def keeping(vector: Array, density: float, epsilon: float) -> Array:
    """Return the probability to keep each element, between zero and one; equal elements rank by their index."""
    count = math.prod(vector.shape)
    if not count:
        return vector
    xp = array_namespace(vector)
    rows = abs(vector).reshape(vector.shape[0] if len(vector.shape) > 1 else 1, -1)
    columns = rows.shape[1]
    places = stable_order(rows)
    places += positions(0, rows[:, 0]).reshape(-1, 1) * columns
    ranks = xp.empty_like(rows.reshape(-1))
    ranks[places.reshape(-1)] = xp.broadcast_to(astype(positions(0, rows[0]), ranks.dtype), rows.shape).reshape(-1)
    spread = 2 * epsilon / max(columns - 1, 1)
    ranks *= spread
    ranks += density - epsilon if columns > 1 else density
    return xp.clip(ranks, 1e-3, 1.0).reshape(vector.shape)


METHOD = Della()
