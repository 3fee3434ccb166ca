"""Elect a sign for every element and combine the branches that agree with it (https://arxiv.org/abs/2306.01708)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from git_theta_ext.interfaces import Elected, Option, array_namespace, astype

from . import _tensors
from ._vectors import total

if TYPE_CHECKING:
    from collections.abc import Sequence

    from git_theta_ext.interfaces import Array, Piece

MASS: Final = "mass"
COUNT: Final = "count"

LINEAR: Final = "linear"
TIES: Final = "ties"

_TINY = 1e-30


def election(default: str) -> Option:
    """Return the option of methods that add task vectors, or combine those that agree with the elected sign."""
    return Option(default, choices=(LINEAR, TIES))


def summed_or_elected(piece: Piece, vectors: list[Array]) -> Array:
    """Combine task vectors, multiplied by their weights, as the option ``election`` of a piece says."""
    if piece.options["election"] == TIES:
        return elect(vectors, piece.weights, piece.majority).value
    return total(vectors)


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


def agreeing_mean(vectors: Sequence[Array], factors: Sequence[float], shares: Sequence[float]) -> Array:
    """Combine the vectors that have the sign of the vectors' sum, or the positive ones if that is zero.

    Unlike ``elect``, weights have no part in the election.

    Args:
        vectors: Trimmed task vectors, without weights; they are not modified.
        factors: What each vector is multiplied by.
        shares: What each vector that agrees counts in the divisor.
    """
    xp = array_namespace(vectors[0])
    signs = total(list(vectors))
    xp.sign(signs, out=signs)
    signs += 0.5
    xp.sign(signs, out=signs)
    above, below = xp.zeros_like(signs), xp.zeros_like(signs)
    for vector, factor, share in zip(vectors, factors, shares, strict=True):
        agrees = astype(vector * signs > 0, signs.dtype)
        below += agrees * share
        agrees *= vector
        agrees *= factor
        above += agrees
    above /= xp.clip(below, _TINY, None, out=below)
    return above
