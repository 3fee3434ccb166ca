"""Statistics of values that are read chunk by chunk, in bounded memory."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

from git_theta_ext.records import dataclass

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

HALF_BITS = 16
"""Number of the upper, and of the lower, bits of a float32."""

_BLOCK = 1 << 8
"""Bins whose counts are added up at once; their number is a multiple of this, or smaller."""


@dataclass
class Moments:
    """Mean and variance of float64 values.

    Chunks are combined as in Chan, Golub and LeVeque (1979), so that nothing cancels.

    Attributes:
        count: Number of values.
        mean: Their mean.
        squares: Sum of their squared deviations from the mean.
    """

    count: int = 0
    mean: float = 0.0
    squares: float = 0.0

    def add(self, values: NDArray[np.float64]) -> None:
        """Add finite values."""
        if not values.size:
            return
        total = self.count + values.size
        mean = float(values.mean())
        shift = mean - self.mean
        self.squares += float(((values - mean) ** 2).sum()) + shift * shift * self.count * values.size / total
        self.mean += shift * values.size / total
        self.count = total

    @property
    def deviation(self) -> float:
        """The standard deviation of the population; 0 if there are no values."""
        return math.sqrt(self.squares / self.count) if self.count else 0.0


@dataclass
class KthLargest:
    """The search for the k-th largest magnitude of float32 values, exactly, in two passes.

    The bits of a float32 without its sign, read as an integer, are in the order of magnitudes. The first pass counts
    the upper half of the bits, which tells the bin that the k-th largest value is in. The second pass counts the lower
    half of the bits of the values in that bin. The order in which values are read does not matter.

    Attributes:
        rank: k; no more than there are values.
        bin: The upper half of the result's bits; -1 before the first pass has ended.
    """

    rank: int
    bin: int = -1
    _above: int = 0

    def narrow(self, counts: NDArray[Any]) -> None:
        """End the first pass.

        Args:
            counts: Number of values by the upper half of their bits.
        """
        self.rank = min(self.rank, int(counts.sum()))
        self.bin, self._above = _ranked(counts, self.rank)

    def find(self, counts: NDArray[Any]) -> tuple[int, int]:
        """End the second pass.

        Args:
            counts: Number of values in the bin by the lower half of their bits.

        Returns:
            The bits of the k-th largest magnitude, and how many values of exactly this magnitude are among the k
            largest.
        """
        low, above = _ranked(counts, self.rank - self._above)
        return self.bin << HALF_BITS | low, self.rank - self._above - above


def _ranked(counts: NDArray[Any], rank: int) -> tuple[int, int]:
    """Return the bin, from the top, that holds the value of a rank, and how many values are in the bins above it."""
    # Two short running sums take a tenth of the time of a long one.
    blocks = counts.reshape(-1, min(counts.size, _BLOCK))
    block, above = _place(blocks.sum(axis=1)[::-1], rank)
    place, within = _place(blocks[len(blocks) - 1 - block][::-1], rank - above)
    return counts.size - 1 - block * blocks.shape[1] - place, above + within


def _place(descending: NDArray[Any], rank: int) -> tuple[int, int]:
    """Return the place that holds the value of a rank, the last one if there is none, and how many are before it."""
    import numpy as np

    sums = np.cumsum(descending)
    place = min(int(np.searchsorted(sums, rank)), descending.size - 1)
    return place, int(sums[place] - descending[place])
