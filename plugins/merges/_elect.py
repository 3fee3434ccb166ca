"""Elect a sign for every element and combine the branches that agree with it (https://arxiv.org/abs/2306.01708)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from git_theta_ext.interfaces import Elected

if TYPE_CHECKING:
    from collections.abc import Sequence

    import torch

MASS, COUNT = "mass", "count"


def elect(vectors: Sequence[torch.Tensor], weights: Sequence[float], majority: int, votes_by: str = MASS) -> Elected:
    """Combine vectors where they agree.

    The sign of an element is that of the vectors' sum, or of the sum of their signs; where that is zero it is the
    majority's. The result is the weighted mean of the vectors that have this sign, zero where none has.

    Args:
        vectors: Trimmed task vectors, weighted already; they are left as they are.
        weights: What they were multiplied by.
        majority: 1 or -1.
        votes_by: ``mass`` or ``count``.
    """
    import torch

    total = vectors[0].clone() if votes_by == MASS else vectors[0].sign()
    for vector in vectors[1:]:
        total += vector if votes_by == MASS else vector.sign()
    sign = total.sign_()
    undecided = sign == 0
    votes = sign.to(torch.int8).sum(dtype=torch.int64)
    sign.masked_fill_(undecided, float(majority))
    combined = torch.zeros_like(sign)
    divisor = torch.zeros_like(sign)
    something = torch.zeros_like(undecided)
    for vector, weight in zip(vectors, weights, strict=True):
        agrees = vector * sign > 0
        combined += vector * agrees
        divisor += agrees * weight
        something |= vector != 0
    combined /= divisor.masked_fill_(divisor == 0, 1.0)
    return Elected(combined, votes, (undecided & something).sum(dtype=torch.int64))
