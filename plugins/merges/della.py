"""DELLA: drop by rank of magnitude in the row (Deep et al., 2024, https://arxiv.org/abs/2406.11617)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from git_theta_ext.interfaces import MergeContract, Option, pieces

from . import _random
from ._elect import elect
from ._vectors import LAMBDA, added, task_vectors, weighted

if TYPE_CHECKING:
    import torch

    from git_theta_ext.interfaces import Piece


class Della:
    """Keeps each change with a probability that grows with its rank in its row, and elects signs as TIES does.

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
            "lambda": LAMBDA,
            "seed": _random.SEED,
        },
        weighted=True,
        stochastic=True,
        scratch=pieces(14, 2),
        reference="https://arxiv.org/abs/2406.11617",
    )

    def __call__(self, piece: Piece) -> torch.Tensor:
        """Merge one piece; see ``git_theta_ext.interfaces.MergeMethod``."""
        density, epsilon = (float(piece.options[name]) for name in ("density", "epsilon"))
        vectors = []
        for vector, key in zip(task_vectors(piece), piece.keys, strict=True):
            kept = keeping(vector, density, epsilon)
            vectors.append((vector / kept).masked_fill_(_random.uniform(key, piece.start, vector) >= kept, 0.0))
        elected = elect(weighted(vectors, piece.weights), piece.weights, piece.majority)
        return added(piece, elected.value, float(piece.options["lambda"]))


def keeping(vector: torch.Tensor, density: float, epsilon: float) -> torch.Tensor:
    """Return the probability to keep each element, between zero and one; equal elements rank by their index."""
    import torch

    if not vector.numel():
        return vector
    rows = vector.abs().reshape(vector.shape[0] if vector.dim() > 1 else 1, -1)
    columns = rows.shape[1]
    order = rows.argsort(dim=1, stable=True)
    ranks = torch.empty_like(rows).scatter_(
        1, order, torch.arange(columns, dtype=rows.dtype, device=rows.device).expand_as(rows)
    )
    spread = 2 * epsilon / max(columns - 1, 1)
    return (ranks * spread + (density - epsilon if columns > 1 else density)).clamp_(1e-3, 1.0).reshape(vector.shape)


METHOD = Della()
