"""Elect a sign for every element and combine the branches that agree with it (https://arxiv.org/abs/2306.01708)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from git_theta_ext.interfaces import Elected

if TYPE_CHECKING:
    from collections.abc import Sequence

    import torch

MASS, COUNT = "mass", "count"

_TINY = 1e-30


def elect(vectors: Sequence[torch.Tensor], weights: Sequence[float], majority: int, votes_by: str = MASS) -> Elected:
    """Combine the vectors that agree with the elected sign of each element.

    The sign of an element is that of the vectors' sum, or of the sum of their signs; if that is zero, it is the
    majority's. The result is the weighted mean of the vectors that have this sign, or zero if none has.

    Args:
        vectors: Trimmed task vectors, multiplied by their weights; they are not modified.
        weights: The weights.
        majority: 1 or -1.
        votes_by: ``mass`` or ``count``.
    """
    import torch

    # Separate sums for each sign, and numbers as masks: selecting by booleans takes several times as long.
    total, above, below, plus, minus = (torch.zeros_like(vectors[0]) for _ in range(5))
    for vector, weight in zip(vectors, weights, strict=True):
        signs = vector.sign()
        total += vector if votes_by == MASS else signs
        above += vector.clamp_min(0)
        below += vector.clamp_max(0)
        plus += signs.clamp_min(0).mul_(weight)
        minus += signs.clamp_max_(0).mul_(-weight)
    elected = total.sign_()
    votes = elected.sum(dtype=torch.float64)
    ties = (plus + minus).sign_().sum(dtype=torch.float64) - elected.abs().sum(dtype=torch.float64)
    positive = elected.add_(majority / 2).sign_().clamp_min_(0)
    chosen = above.div_(plus.clamp_min_(_TINY)).mul_(positive)
    chosen += below.div_(minus.clamp_min_(_TINY)).mul_(1 - positive)
    return Elected(chosen, votes.to(torch.int64), ties.to(torch.int64))
