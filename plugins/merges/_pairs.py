"""Combine the factors of several LoRAs."""

from __future__ import annotations

from typing import TYPE_CHECKING

from git_theta_ext.errors import MergeError
from git_theta_ext.interfaces import Option, Pair, array_namespace, astype

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from git_theta_ext.interfaces import Array

MEAN, SUM = "mean", "sum"
COMBINE = Option(MEAN, choices=(MEAN, SUM))
"""Whether the weighted updates are divided by the sum of the weights."""


def same_weight(branches: Sequence[Pair]) -> None:
    """Check that pairs belong to one weight.

    Raises:
        MergeError: They belong to weights of different shapes.
    """
    if len({(pair.a.shape[1], pair.b.shape[0]) for pair in branches}) > 1:
        raise MergeError("the pairs belong to weights of different shapes")


def divisor_of(weights: Sequence[float], combine: object) -> float:
    """Return the sum of the weights for a mean, and 1 for a sum.

    Raises:
        MergeError: The weights of a mean are all zero.
    """
    divisor = sum(weights) if combine == MEAN else 1.0
    if not divisor:
        raise MergeError("all sides that changed it have weight 0", hint="weights: [0.5, 0.5]")
    return divisor


def reduced_rank(ranks: Sequence[int], sides: tuple[int, int], options: Mapping[str, float | str], most: int) -> int:
    """Return the rank that the options ask for, or the largest of the branches, as far as the update can have it.

    Args:
        ranks: The ranks of the branches.
        sides: The numbers of inputs and outputs of the weight.
        options: Those of the method; a rank of 0 is the largest of the branches.
        most: The largest rank of the update.
    """
    return min(int(options["rank"]) or max(ranks), most, *sides)


def stacked(branches: Sequence[Pair], weights: Sequence[float], combine: object) -> tuple[Array, Array]:
    """Return the concatenated factors B and A in float64, whose product is exactly the combined update.

    Raises:
        MergeError: The pairs belong to weights of different shapes, or the weights of a mean are all zero.
    """
    same_weight(branches)
    divisor = divisor_of(weights, combine)
    xp = array_namespace(branches[0].a)
    b = [
        astype(pair.b, xp.float64) * (weight * pair.scale / divisor)
        for pair, weight in zip(branches, weights, strict=True)
    ]
    return xp.concatenate(b, 1), xp.concatenate([astype(pair.a, xp.float64) for pair in branches], 0)


def reduced(u: Array, s: Array, vt: Array, rank: int, kind: object) -> tuple[Pair, float]:
    """Return the pair of the largest singular values of an update, and the share of the energy that it loses.

    Args:
        u: Left singular vectors as columns, in float64.
        s: Singular values in descending order.
        vt: Right singular vectors as rows.
        rank: How many to keep.
        kind: The element type of the factors.
    """
    root = array_namespace(s).sqrt(s[:rank])
    energy = float((s * s).sum())
    lost = float((s[rank:] * s[rank:]).sum()) / energy if energy else 0.0
    return Pair(astype(vt[:rank] * root[:, None], kind), astype(u[:, :rank] * root, kind), 1.0), lost
