"""Elementwise sum, also of integers: for counters that every branch started at zero.

Where both sides raised a counter of the common ancestor, ``task_arithmetic`` adds what each of them added.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from git_theta_ext.interfaces import MergeContract, array_namespace

from ._ascending import ascending
from ._integers import check_sum
from ._vectors import total

if TYPE_CHECKING:
    from collections.abc import Sequence

    from git_theta_ext.interfaces import Array, Piece

_PAIR = 2


def _numbers(shape: Sequence[int], branches: int) -> float:
    return math.prod(shape) * (branches + 2) if branches > _PAIR else 0


class Sum:
    """Computes the elementwise sum of the branches, also of integers and booleans."""

    name = "sum"
    contract = MergeContract(needs_base=False, symmetric=True, integers=True, arrays=True, scratch=_numbers)

    def __call__(self, piece: Piece) -> Array:
        """Merge one piece; see ``git_theta_ext.interfaces.MergeMethod``.

        With three or more branches, the values of each element are added in ascending order, so that the order of the
        branches does not matter.
        """
        terms = list(piece.branches)
        if terms[0].dtype == array_namespace(terms[0]).int64:
            check_sum([(1, term) for term in terms])
        return total(ascending(terms) if len(terms) > _PAIR else terms)


METHOD = Sum()
