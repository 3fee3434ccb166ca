"""Combine the factors of several LoRAs."""

from __future__ import annotations

from typing import TYPE_CHECKING

from git_theta_ext.errors import MergeError
from git_theta_ext.interfaces import Option, array_namespace, astype

if TYPE_CHECKING:
    from collections.abc import Sequence

    from git_theta_ext.interfaces import Array, Pair

MEAN, SUM = "mean", "sum"
COMBINE = Option(MEAN, choices=(MEAN, SUM))
"""Whether the weighted updates are divided by the sum of the weights."""


def stacked(branches: Sequence[Pair], weights: Sequence[float], combine: object) -> tuple[Array, Array]:
    """Return the concatenated factors B and A in float64, whose product is exactly the combined update.

    Raises:
        MergeError: The pairs belong to weights of different shapes, or the weights of a mean are all zero.
    """
    if len({(pair.a.shape[1], pair.b.shape[0]) for pair in branches}) > 1:
        raise MergeError("the pairs belong to weights of different shapes")
    divisor = sum(weights) if combine == MEAN else 1.0
    if not divisor:
        raise MergeError("all sides that changed it have weight 0", hint="weights: [0.5, 0.5]")
    xp = array_namespace(branches[0].a)
    b = [
        astype(pair.b, xp.float64) * (weight * pair.scale / divisor)
        for pair, weight in zip(branches, weights, strict=True)
    ]
    return xp.concatenate(b, 1), xp.concatenate([astype(pair.a, xp.float64) for pair in branches], 0)
