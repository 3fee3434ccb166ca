"""Arcee Fusion: ours, with the most important of their changes (https://github.com/arcee-ai/mergekit)."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from git_theta_ext.interfaces import MergeContract, array_namespace, astype, pieces

from ._arrays import kth_smallest

if TYPE_CHECKING:
    from git_theta_ext.interfaces import Array, Piece

_SMALLEST = 1e-8
"""Added to probabilities, so that their logarithms are finite."""


class ArceeFusion:
    """Takes their values for the elements whose importance is an outlier of the tensor's, and ours for all others.

    The importance of an element is its difference, times the divergence of the softmax of their row from that of ours.
    An outlier is at least the median plus 1.5 interquartile ranges.
    """

    name = "arcee_fusion"
    contract = MergeContract(
        needs_base=False,
        symmetric=False,
        granularity="matrix",
        exact=False,
        branches=(2, 2),
        arrays=True,
        scratch=pieces(9.5),
        reference="https://github.com/arcee-ai/mergekit",
    )

    def __call__(self, piece: Piece) -> Array:
        """Merge one tensor; see ``git_theta_ext.interfaces.MergeMethod``."""
        ours, theirs = piece.branches
        if not math.prod(ours.shape):
            return ours + theirs
        sizes = _importance(ours, theirs)
        lower, median, upper = (kth_smallest(sizes, int(q * (math.prod(sizes.shape) - 1))) for q in (0.25, 0.5, 0.75))
        return array_namespace(ours).where(sizes >= median + 1.5 * (upper - lower), theirs, ours)


def _importance(ours: Array, theirs: Array) -> Array:
    """Return the importance of each element, in float64."""
    xp = array_namespace(ours)
    rows = (*ours.shape, 1) if not ours.shape else ours.shape
    one, other = (astype(values.reshape(rows), xp.float64) for values in (ours, theirs))
    sizes = abs(other - one)
    one, other = _softmax(one), _softmax(other)
    one[...] = xp.log(other / one)
    one *= other
    sizes *= one.sum(-1)[..., None]
    return sizes.reshape(ours.shape)


def _softmax(values: Array) -> Array:
    """Return the softmax of each row, not quite zero, in the memory of the values."""
    xp = array_namespace(values)
    values -= xp.amax(values, -1)[..., None]
    xp.exp(values, out=values)
    values /= values.sum(-1)[..., None]
    values += _SMALLEST
    return values


METHOD = ArceeFusion()
