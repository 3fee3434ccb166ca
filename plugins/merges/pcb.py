"""PCB-Merging: balance the competition of parameters (Du et al., 2024, https://arxiv.org/abs/2410.02396)."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from git_theta_ext.interfaces import MergeContract, Option, array_namespace, astype

from ._arrays import kth_smallest
from ._vectors import LAMBDA, added, task_vectors, total

if TYPE_CHECKING:
    from collections.abc import Sequence

    from git_theta_ext.interfaces import Array, Piece

_OUTLIERS = 1e-4
"""The share of the smallest and of the largest changes that are moved to the nearest of the others."""
_LEAST = 1e-12


def _numbers(shape: Sequence[int], branches: int) -> float:
    return math.prod(shape) * (18 + branches)


class ParameterCompetition:
    """Adds the mean of the changes, in which an element of a branch has a share of its own.

    The share grows with the size of the change among those of its branch, and with its agreement with the sum of the
    changes of all branches. It is even from 0 to 1 for the share ``density`` of elements with the largest products of
    both, and 0 for all others, which are dropped. All of that is by tensor; the authors' code takes the model for one.
    """

    name = "pcb"
    contract = MergeContract(
        needs_base=True,
        symmetric=False,
        granularity="matrix",
        options={"density": Option(0.1, 1e-9, 1.0), "lambda": LAMBDA},
        weighted=True,
        exact=False,
        arrays=True,
        scratch=_numbers,
        reference="https://arxiv.org/abs/2410.02396",
    )

    def __call__(self, piece: Piece) -> Array:
        """Merge one tensor; see ``git_theta_ext.interfaces.MergeMethod``."""
        vectors = task_vectors(piece)
        xp = array_namespace(vectors[0])
        both = total([astype(vectors[0], xp.float64), *vectors[1:]])
        count = math.prod(both.shape)
        if not count:
            return piece.branches[0]
        most = max(0, int(count * (1 - _OUTLIERS) - 1))
        least = min(count - 1, int(count * (1 - float(piece.options["density"]))))
        change, shares = xp.zeros_like(both), xp.zeros_like(both)
        for vector, weight in zip(vectors, piece.weights, strict=True):
            sizes = abs(vector)
            low, high = kth_smallest(sizes, int(count * _OUTLIERS)), kth_smallest(sizes, most)
            share = _between(sizes, low, high)
            share *= share
            share *= len(vectors)
            xp.exp(share, out=share)
            share *= xp.tanh(both * vector)
            share = _between(share, kth_smallest(share, least), float(share.max()))
            shares += share
            share *= xp.clip(sizes, low, high)
            share *= weight
            share *= xp.sign(vector)
            change += share
        change /= xp.clip(shares, _LEAST, None)
        return added(piece, astype(change, piece.branches[0].dtype), float(piece.options["lambda"]))


def _between(values: Array, low: float, high: float) -> Array:
    """Return where values are from ``low`` to ``high``, as 0 to 1; if these are equal, whether they reach them."""
    xp = array_namespace(values)
    if low == high:
        return astype(values >= high, xp.float64)
    result = astype(xp.clip(values, low, high), xp.float64)
    result -= low
    result /= high - low
    return result


METHOD = ParameterCompetition()
