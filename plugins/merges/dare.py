"""DARE: drop at random and rescale (Yu et al., 2023, https://arxiv.org/abs/2311.03099)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from git_theta_ext.interfaces import Fusion, MergeContract, Option, pieces

from . import _random
from ._arrays import clear, divide
from ._elect import LINEAR, MASS, TIES, election, summed_or_elected
from ._vectors import LAMBDA, added, task_vectors, weighted

if TYPE_CHECKING:
    from collections.abc import Mapping

    from git_theta_ext.interfaces import Array, Piece


def _fused(options: Mapping[str, float | str]) -> Fusion:
    elects = options["election"] == TIES
    return Fusion(MASS if elects else "sum", float(options["lambda"]), float(options["density"]))


class Dare:
    """Keeps each change with a probability, divides it by that, and adds the rest, or elects signs as TIES does."""

    name = "dare"
    contract = MergeContract(
        needs_base=True,
        symmetric=False,
        options={
            "density": Option(0.5, 1e-3, 1.0),
            "election": election(LINEAR),
            "lambda": LAMBDA,
            "seed": _random.SEED,
        },
        weighted=True,
        arrays=True,
        stochastic=True,
        scratch=pieces(7, 1),
        reference="https://arxiv.org/abs/2311.03099",
        fused=_fused,
    )

    def __call__(self, piece: Piece) -> Array:
        """Merge one piece; see ``git_theta_ext.interfaces.MergeMethod``."""
        kept = float(piece.options["density"])
        vectors = [
            dropped(vector, key, piece.start, kept) for vector, key in zip(task_vectors(piece), piece.keys, strict=True)
        ]
        change = summed_or_elected(piece, weighted(vectors, piece.weights))
        return added(piece, change, float(piece.options["lambda"]))


def dropped(vector: Array, key: int, start: int, kept: float) -> Array:
    """Set randomly chosen elements to zero, in place, and divide the others by the probability to be kept."""
    if kept < 1:
        return divide(clear(vector, _random.uniform(key, start, vector) >= kept), kept)
    return vector


METHOD = Dare()
