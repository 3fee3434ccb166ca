"""Elementwise sum, also of integers: for counters that every branch started at zero.

Where both sides raised a counter of the common ancestor, ``task_arithmetic`` adds what each of them added.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from git_theta_ext.interfaces import MergeContract

from ._integers import check_sum

if TYPE_CHECKING:
    from collections.abc import Sequence

    import torch

    from git_theta_ext.interfaces import Piece

_PAIR = 2


def _numbers(shape: Sequence[int], branches: int) -> float:
    return math.prod(shape) * 4 * branches if branches > _PAIR else 0


class Sum:
    """Computes the elementwise sum of the branches, also of integers and booleans."""

    name = "sum"
    contract = MergeContract(needs_base=False, symmetric=True, integers=True, scratch=_numbers)

    def __call__(self, piece: Piece) -> torch.Tensor:
        """Merge one piece; see ``git_theta_ext.interfaces.MergeMethod``.

        With three or more branches, the values of each element are added in ascending order, so that the order of the
        branches does not matter.
        """
        import torch

        first, *rest = piece.branches
        if not (first.is_floating_point() or first.is_complex()):
            check_sum([(1, branch) for branch in piece.branches])
        if len(piece.branches) > _PAIR:
            first, *rest = torch.stack(piece.branches).sort(dim=0).values.unbind()
        result = first.clone()
        for branch in rest:
            result += branch
        return result


METHOD = Sum()
