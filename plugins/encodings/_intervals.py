"""The intervals that the elements of a rounded update restrict it to, and how far a product is from them.

All functions take arrays of numpy or torch, and that module as ``xp``.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

ANYTHING = 1e30
"""Half the length of the interval of an element without information, such as one that is not finite."""

INSIDE = 0.003
"""The weight of elements that are inside their interval, which keeps the systems regular."""


@dataclass(frozen=True, slots=True)
class Intervals:
    """The intervals of a rounded update, as arrays of [rows, columns] in float32.

    Attributes:
        centre: The middle of the interval of each element; zero if the element does not restrict the update.
        half: Half the length of the interval; ``ANYTHING`` if the element does not restrict the update.
    """

    centre: Any
    half: Any

    @property
    def T(self) -> Intervals:  # noqa: N802 - the name that arrays use
        """The transposed update."""
        return Intervals(self.centre.T, self.half.T)


def regular(normal: Any) -> Any:
    """Return the matrices of systems with slightly larger diagonals, in place, so that they can be solved."""
    rank = range(normal.shape[-1])
    diagonal = normal[:, rank, rank]
    normal[:, rank, rank] = diagonal * (1 + 1e-12) + 1e-12 * diagonal.mean() + 1e-300
    return normal


def misses(xp: Any, update: Intervals, product: Any, scale: tuple[float, float]) -> tuple[Any, Any]:
    """Return the distances of a product from intervals in float32, and the weights of the elements in float64.

    Args:
        xp: numpy or torch.
        update: The intervals.
        product: The product, of the same shape.
        scale: The part of an interval to aim at, and the half of one that has a weight of 1 if it is missed.
    """
    half = update.half
    off = _single(update.centre - product)
    inner = half * scale[0]
    missed = off - xp.minimum(xp.maximum(off, -inner), inner)
    weights = scale[1] / half
    weights *= weights
    return missed, wide(xp.where(missed != 0, weights, weights * INSIDE))


def wide(values: Any) -> Any:
    """Return values in float64."""
    return values.double() if hasattr(values, "double") else values.astype("f8")


def _single(values: Any) -> Any:
    return values.float() if hasattr(values, "float") else values.astype("f4")
