"""Find exact thresholds of magnitude over many tensors in bounded memory: see ``git_theta_ext.util.streaming``.

The values are counted on the device that merges them, positive and negative ones separately.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from git_theta_ext.interfaces.merges import ALL_EQUALS, Trim
from git_theta_ext.records import dataclass, field
from git_theta_ext.util.streaming import HALF_BITS, KthLargest

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy as np
    import torch
    from numpy.typing import NDArray

    from git_theta_ext.interfaces import Array


SCRATCH_BYTES = 4 * 12
"""The most bytes that ``counts`` takes for each element, besides its result."""

HISTOGRAM_BYTES = 1 << 20
"""The most bytes that ``counts`` returns."""

_SIGN = 1 << 15
_LOW = 0xFFFF


def counts(vector: Array, within: int) -> NDArray[np.int64]:
    """Count the magnitudes of a task vector.

    Args:
        vector: Float32, an array of numpy or a tensor of torch on any device.
        within: In the second pass the bin of the threshold; -1 in the first pass.

    Returns:
        The number of elements by their upper 16 bits, including the sign; in the second pass the number of elements in
        the bin by sign and lower 16 bits.
    """
    import numpy as np

    if not isinstance(vector, np.ndarray):
        return _counted_by_torch(vector, within)
    bits = vector.reshape(-1).view(np.uint32)
    if within < 0:  # the sign is the highest bit of these
        return np.bincount(bits >> HALF_BITS, minlength=1 << HALF_BITS)
    chosen = np.compress((bits >> HALF_BITS) & (_SIGN - 1) == within, bits)
    return np.bincount(_signed(chosen), minlength=1 << (HALF_BITS + 1))


def counts_in(vector: Array, bins: Sequence[int]) -> NDArray[np.int64]:
    """Count the magnitudes of a task vector as ``counts`` does, in the second pass for several bins.

    Args:
        vector: As for ``counts``.
        bins: The bins of thresholds, in ascending order; none in the first pass.

    Returns:
        What ``counts`` returns; the counts of several bins follow each other.
    """
    import numpy as np

    if len(bins) <= 1:
        return counts(vector, bins[0] if bins else -1)
    if not isinstance(vector, np.ndarray):
        return np.concatenate([counts(vector, within) for within in bins])
    places = np.full(_SIGN, -1, np.int32)
    places[list(bins)] = np.arange(len(bins), dtype=np.int32)
    bits = vector.reshape(-1).view(np.uint32)
    place = places[(bits >> HALF_BITS) & (_SIGN - 1)]
    chosen = place >= 0
    numbers = (place[chosen] << (HALF_BITS + 1)) | _signed(bits[chosen]).astype(np.int32)
    return np.bincount(numbers, minlength=len(bins) << (HALF_BITS + 1))


def _counted_by_torch(vector: torch.Tensor, within: int) -> NDArray[np.int64]:
    """Count in sorted order: counters in memory that many elements increase, such as that of zero, are slow on CUDA."""
    import torch

    bits = vector.reshape(-1).view(torch.int32)
    upper = bits.view(torch.int16)[1::2]  # little-endian
    if within < 0:
        # From the smallest int16 on: the bins of negative numbers are the upper half.
        return _counted_numbers(upper, -_SIGN, _SIGN, _SIGN)
    return _counted_numbers(_signed(bits[(upper & (_SIGN - 1)) == within]), 0, 1 << (HALF_BITS + 1), 0)


def _counted_numbers(numbers: torch.Tensor, least: int, end: int, shift: int) -> NDArray[np.int64]:
    """Return how often each integer from ``least`` to before ``end`` is in a tensor, rotated by ``shift``."""
    import numpy as np
    import torch

    ordered = numbers.sort().values
    edges = torch.arange(least, end, dtype=numbers.dtype, device=numbers.device)
    starts = torch.searchsorted(ordered, edges, out_int32=True).cpu().numpy()
    counted: NDArray[np.int64] = np.diff(starts, append=np.int32(len(ordered))).astype(np.int64)
    return np.roll(counted, shift)


def _signed(bits: Array) -> Array:
    """Return lower halves with the sign on top, so that both halves of a histogram are one sign's."""
    return (bits & _LOW) | ((bits >> (HALF_BITS - 1)) & (1 << HALF_BITS))


@dataclass
class Selection:
    """The search for the threshold of one branch.

    Attributes:
        keep: How many of the largest magnitudes to keep, at least.
        zeros: Number of elements that are known to be zero without being read.
    """

    keep: int
    zeros: int = 0
    _counts: list[NDArray[np.int64] | None] = field(default_factory=lambda: [None, None])
    _alone: list[NDArray[np.int64] | None] = field(default_factory=lambda: [None, None])

    def __post_init__(self) -> None:
        self._search = KthLargest(self.keep)

    @property
    def bin(self) -> int:
        """The bin of the threshold; -1 in the first pass."""
        return self._search.bin

    def add(self, counted: NDArray[np.int64], *, alone: bool) -> None:
        """Add the counts of a piece, in the first or the second pass.

        Args:
            counted: From ``counts``; it must not change afterwards.
            alone: Whether no other branch changed this piece.
        """
        second = self.bin >= 0
        for sums in (self._counts, self._alone) if alone else (self._counts,):
            before = sums[second]
            # Mostly there is one piece: all of them were counted in one histogram.
            sums[second] = counted if before is None else before + counted

    def narrow(self) -> None:
        """End the first pass: find the bin of the threshold."""
        self._search.narrow(self._folded(self._counts[0], HALF_BITS, self.zeros))

    def threshold(self, *, exact: bool) -> Trim:
        """End the second pass.

        Args:
            exact: Whether to keep exactly ``keep`` elements, and not all that equal the smallest of them.
        """
        zeros = self.zeros if self.bin == 0 else 0
        bits, equal = self._search.find(self._folded(self._counts[1], HALF_BITS + 1, zeros))
        return Trim(bits, equal if exact else ALL_EQUALS)

    def votes(self, trim: Trim, *, alone: bool) -> int:
        """Return the number of positive minus that of negative elements at or above a threshold.

        Args:
            trim: The threshold.
            alone: Whether to count only the pieces that no other branch changed.
        """
        upper, lower = self._alone if alone else self._counts
        total = 0
        if upper is not None:
            positive, negative = upper[:_SIGN], upper[_SIGN:]
            total += int((positive - negative)[self.bin + 1 :].sum())
        if lower is not None:
            positive, negative = lower[: 1 << HALF_BITS], lower[1 << HALF_BITS :]
            low = trim.bits & _LOW
            # Zero has no sign.
            first = max(low, 1) if self.bin == 0 else low
            total += int((positive - negative)[first:].sum())
        return total

    @staticmethod
    def _folded(counts: NDArray[np.int64] | None, bits: int, zeros: int) -> NDArray[np.int64]:
        """Return the counts of magnitudes, both signs together, with zeros that were not read."""
        import numpy as np

        half = 1 << (bits - 1)
        folded = np.zeros(half, np.int64) if counts is None else counts[:half] + counts[half:]
        folded[0] += zeros
        return folded
