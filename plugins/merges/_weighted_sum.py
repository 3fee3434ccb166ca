"""The weighted sum of the branches, whatever their order."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from git_theta_ext.interfaces import array_namespace, astype

from ._ascending import ascending

if TYPE_CHECKING:
    from collections.abc import Sequence

    from git_theta_ext.interfaces import Array, Piece

_PAIR = 2


def scratch(shape: Sequence[int], branches: int) -> float:
    """Return the memory that ``weighted_sum`` takes; see ``MergeContract.scratch``."""
    return math.prod(shape) * (6 * branches if branches > _PAIR else 6)


def weighted_sum(piece: Piece) -> Array:
    """Return the sum of the branches, each multiplied by its weight, in float64.

    With three or more branches, the terms of each element are added in ascending order, so that the order of the
    branches does not matter.
    """
    xp = array_namespace(piece.branches[0])
    terms = [
        branch if weight == 1 else astype(branch, xp.float64) * weight
        for branch, weight in zip(piece.branches, piece.weights, strict=True)
    ]
    if len(terms) > _PAIR:
        alike = len({term.dtype for term in terms}) == 1
        terms = ascending(terms if alike else [astype(term, xp.float64, copy=False) for term in terms])
    total = astype(terms[0], xp.float64)
    for term in terms[1:]:
        total += term
    return total
