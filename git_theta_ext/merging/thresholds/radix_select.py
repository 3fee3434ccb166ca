"""Find exact thresholds of magnitude over many tensors in bounded memory.

The bits of a float32 without its sign, read as an integer, are in the order of magnitudes. One read of all values
counts their upper bits in 2^16 bins, signs apart; a second one the lower bits of those in the bin where the threshold
lies. The counts do not depend on the order of reading.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from git_theta_ext.interfaces import Trim

if TYPE_CHECKING:
    import torch

ALL_EQUALS = 1 << 62
"""For ``Trim.equal``: however many."""

SCRATCH = 12
"""How many int32 ``counts`` holds at most for each element, besides its result."""

HISTOGRAM_BYTES = 1 << 20
"""Of what ``counts`` returns at most."""

_HALF = 16
_SIGN = 1 << 15
_LOW = 0xFFFF


def counts(vector: torch.Tensor, within: int) -> torch.Tensor:
    """Count the magnitudes of a task vector.

    Args:
        vector: Float32, of any device.
        within: Behind the first pass the bin in which the threshold lies, else -1.

    Returns:
        How many elements have each value of their upper 16 bits, sign and all; or of those in the bin how many have
        each sign and lower 16 bits.
    """
    import torch

    bits = vector.reshape(-1).view(torch.int32)
    upper = bits >> _HALF
    if within < 0:  # the sign is the highest bit of these
        return torch.bincount(upper & _LOW, minlength=1 << _HALF).cpu()
    chosen = _chosen(bits, (upper.to(torch.int16) & (_SIGN - 1)) == within)
    # The sign on top, so that both halves of the histogram are one sign's.
    signed = (chosen & _LOW) | ((chosen >> (_HALF - 1)) & (1 << _HALF))
    return torch.bincount(signed, minlength=1 << (_HALF + 1)).cpu()


def _chosen(values: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
    if values.device.type != "cpu":
        return values[mask]
    import numpy as np
    import torch

    # What torch takes for the same on the processor is five times as long.
    return torch.from_numpy(np.compress(mask.numpy(), values.numpy()))


@dataclass
class Selection:
    """The search for one branch's threshold.

    Attributes:
        keep: How many of the largest magnitudes are to stay, at least.
        zeros: Elements that are known to be zero without being read.
        bin: Where the threshold lies, known behind the first pass.
    """

    keep: int
    zeros: int = 0
    bin: int = -1
    _counts: list[torch.Tensor | None] = field(default_factory=lambda: [None, None])
    _alone: list[torch.Tensor | None] = field(default_factory=lambda: [None, None])
    _above: int = 0

    def add(self, found: torch.Tensor, *, alone: bool) -> None:
        """Take the counts of a piece into account, in the first and in the second pass.

        Args:
            found: From ``counts``.
            alone: Whether no other branch changed this part.
        """
        number = 0 if self.bin < 0 else 1
        for sums in (self._counts, self._alone) if alone else (self._counts,):
            before = sums[number]
            sums[number] = found if before is None else before + found

    def narrow(self) -> None:
        """End the first pass: find the bin in which the threshold lies."""
        upper = self._folded(self._counts[0], _HALF)
        upper[0] += self.zeros
        self.keep = min(self.keep, sum(upper))
        self.bin, self._above = _last(upper, self.keep, 0)

    def threshold(self, *, exact: bool) -> Trim:
        """End the second pass.

        Args:
            exact: Whether exactly ``keep`` elements stay, and not all that equal the smallest of them.
        """
        lower = self._folded(self._counts[1], _HALF + 1)
        if self.bin == 0:
            lower[0] += self.zeros
        low, above = _last(lower, self.keep, self._above)
        return Trim((self.bin << _HALF) | low, self.keep - above if exact else ALL_EQUALS)

    def votes(self, trim: Trim, *, alone: bool) -> int:
        """Return positive less negative elements at or above a threshold.

        Args:
            trim: The threshold.
            alone: Whether only the parts count that no other branch changed.
        """
        upper, lower = self._alone if alone else self._counts
        total = 0
        if upper is not None:
            positive, negative = upper[:_SIGN], upper[_SIGN:]
            total += int((positive - negative)[self.bin + 1 :].sum())
        if lower is not None:
            positive, negative = lower[: 1 << _HALF], lower[1 << _HALF :]
            low = trim.bits & _LOW
            # A zero has no sign.
            first = max(low, 1) if self.bin == 0 else low
            total += int((positive - negative)[first:].sum())
        return total

    @staticmethod
    def _folded(counts: torch.Tensor | None, bits: int) -> list[int]:
        """Return the counts of magnitudes, both signs together."""
        half = 1 << (bits - 1)
        if counts is None:
            return [0] * half
        found: list[int] = (counts[:half] + counts[half:]).tolist()
        return found


def _last(counts: list[int], keep: int, above: int) -> tuple[int, int]:
    """Return the bin of the ``keep``-th largest, and how many are above that bin."""
    for number in range(len(counts) - 1, -1, -1):
        if above + counts[number] >= keep:
            return number, above
        above += counts[number]
    return 0, above
