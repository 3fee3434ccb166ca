"""Elect a sign for every element and combine the branches that agree with it (https://arxiv.org/abs/2306.01708)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from git_theta_ext.interfaces import Elected, array_namespace, astype

from . import _tensors

if TYPE_CHECKING:
    from collections.abc import Sequence

    from git_theta_ext.interfaces import Array

MASS: Final = "mass"
COUNT: Final = "count"

_TINY = 1e-30


def elect(vectors: Sequence[Array], weights: Sequence[float], majority: int, votes_by: str = MASS) -> Elected:
    """Combine the vectors that agree with the elected sign of each element.

    The sign of an element is that of the vectors' sum, or of the sum of their signs; if that is zero, it is the
    majority's. The result is the weighted mean of the vectors that have this sign, or zero if none has.

    Args:
        vectors: Trimmed task vectors, multiplied by their weights; they are not modified.
        weights: The weights.
        majority: 1 or -1.
        votes_by: ``mass`` or ``count``.
    """
    import numpy as np

    xp = array_namespace(vectors[0])
    if xp is not np:
        return Elected(*_tensors.elected(vectors, weights, majority, by_count=votes_by == COUNT))
    # Separate sums for each sign, and numbers as masks: selecting by booleans takes several times as long.
    total, above, below, plus, minus = (xp.zeros_like(vectors[0]) for _ in range(5))
    signs, part = xp.empty_like(total), xp.empty_like(total)
    for vector, weight in zip(vectors, weights, strict=True):
        xp.sign(vector, out=signs)
        total += vector if votes_by == MASS else signs
        above += xp.clip(vector, 0, None, out=part)
        below += xp.clip(vector, None, 0, out=part)
        xp.clip(signs, 0, None, out=part)
        part *= weight
        plus += part
        xp.clip(signs, None, 0, out=part)
        part *= -weight
        minus += part
    elected = xp.sign(total, out=total)
    votes = elected.sum(dtype=xp.float64)
    xp.sign(xp.add(plus, minus, out=part), out=part)
    ties = part.sum(dtype=xp.float64) - xp.abs(elected, out=signs).sum(dtype=xp.float64)
    elected += majority / 2
    positive = xp.clip(xp.sign(elected, out=elected), 0, None, out=elected)
    above /= xp.clip(plus, _TINY, None, out=plus)
    above *= positive
    positive *= -1
    positive += 1
    below /= xp.clip(minus, _TINY, None, out=minus)
    below *= positive
    above += below
    return Elected(above, astype(votes, xp.int64), astype(ties, xp.int64))
