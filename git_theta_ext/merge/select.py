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

_HALF = 16
_SIGN = 1 << 15
_LOW = 0xFFFF


@dataclass
class Selection:
    """The search for one branch's threshold.

    Attributes:
        keep: How many of the largest magnitudes are to stay, at least.
        zeros: Elements that are known to be zero without being read.
    """

    keep: int
    zeros: int = 0
    _upper: torch.Tensor | None = None
    _lower: torch.Tensor | None = None
    _alone: list[torch.Tensor | None] = field(default_factory=lambda: [None, None])
    _bin: int = -1
    _above: int = 0

    def count(self, vector: torch.Tensor, *, alone: bool) -> None:
        """Take the values of a part into account, in the first and in the second pass.

        Args:
            vector: A task vector, float32, of any device.
            alone: Whether no other branch changed this part.
        """
        import torch

        bits = vector.reshape(-1).view(torch.int32)
        upper = (bits >> _HALF) & _LOW  # the sign is the highest bit of these
        if self._bin < 0:
            self._upper = self._added(self._upper, upper, alone, 0)
            return
        inside = (upper & (_SIGN - 1)) == self._bin
        chosen = bits[inside]
        # The sign on top, so that both halves of the histogram are one sign's.
        signed = (chosen & _LOW) | ((chosen >> (_HALF - 1)) & (1 << _HALF))
        self._lower = self._added(self._lower, signed, alone, 1)

    def _added(self, counts: torch.Tensor | None, numbers: torch.Tensor, alone: bool, number: int) -> torch.Tensor:  # noqa: FBT001
        import torch

        found = torch.bincount(numbers, minlength=1 << (_HALF + number)).cpu()
        if alone:
            before = self._alone[number]
            self._alone[number] = found if before is None else before + found
        return found if counts is None else counts + found

    def narrow(self) -> None:
        """End the first pass: find the bin in which the threshold lies."""
        upper = self._folded(self._upper, _HALF)
        upper[0] += self.zeros
        self.keep = min(self.keep, sum(upper))
        self._bin, self._above = _last(upper, self.keep, 0)

    def threshold(self, *, exact: bool) -> Trim:
        """End the second pass.

        Args:
            exact: Whether exactly ``keep`` elements stay, and not all that equal the smallest of them.
        """
        lower = self._folded(self._lower, _HALF + 1)
        if self._bin == 0:
            lower[0] += self.zeros
        low, above = _last(lower, self.keep, self._above)
        return Trim((self._bin << _HALF) | low, self.keep - above if exact else ALL_EQUALS)

    def votes_alone(self, trim: Trim) -> int:
        """Return positive less negative elements at or above a threshold, of the parts that no other branch changed."""
        upper, lower = self._alone
        total = 0
        if upper is not None:
            positive, negative = upper[:_SIGN], upper[_SIGN:]
            total += int((positive - negative)[self._bin + 1 :].sum())
        if lower is not None:
            positive, negative = lower[: 1 << _HALF], lower[1 << _HALF :]
            low = trim.bits & _LOW
            # A zero has no sign.
            first = max(low, 1) if self._bin == 0 else low
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
