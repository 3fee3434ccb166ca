"""Count changes with the compiled module: all pieces together, each in one pass from stored elements to counters."""

from __future__ import annotations

from typing import TYPE_CHECKING

from git_theta_ext.coding.merge_kernels import count_differences, knows
from git_theta_ext.merging.thresholds.scopes import changed_specs
from git_theta_ext.util.streaming import HALF_BITS

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    import numpy as np
    from numpy.typing import NDArray

    from git_theta_ext.merging.planning.counted import Changed
    from git_theta_ext.merging.thresholds.search import Bins, Counted
    from git_theta_ext.merging.thresholds.windows import Windows


class Histograms:
    """The counts of the changes of each side, to which several threads may add.

    Args:
        bins: The bins of the thresholds of each side, in ascending order; none in the first pass.
        windows: Where the first pass counts what the second one would.
    """

    def __init__(self, bins: Bins, windows: Windows | None) -> None:
        self._bins = bins
        self._windows = windows
        self._sums: dict[tuple[int, bool], NDArray[np.int64]] = {}

    def add(self, group: Changed, chunks: Sequence[memoryview]) -> bool:
        """Count a piece, and return True, unless arrays have to count it.

        These are pieces of other element types or with values that are not finite, and those for several bins.
        """
        dtypes, numbers = [spec.dtype for spec in changed_specs(group)], list(group[1])
        if not knows(dtypes) or any(len(self._bins[number]) > 1 for number in numbers):
            return False
        rooms = [self._rooms(number, alone=len(numbers) == 1) for number in numbers]
        if count_differences(chunks, dtypes, *zip(*rooms, strict=True)):
            return True
        if self._windows is not None:
            self._windows.complete = False
        return False

    def _rooms(self, number: int, *, alone: bool) -> tuple[NDArray[np.int64], NDArray[np.int64], int]:
        """Return where a side is counted by upper halves, where by all bits, and the bits of the first of these."""
        import numpy as np

        within, none = self._bins[number], np.zeros(0, np.int64)
        # A thread that makes the array when another one does gets that of the other one.
        size = 1 << (HALF_BITS + len(within))
        counted = self._sums.get((number, alone))
        if counted is None:
            counted = self._sums.setdefault((number, alone), np.zeros(size, np.int64))
        if within:
            return none, counted, within[0] << HALF_BITS
        window, first = (none, 0) if self._windows is None else self._windows.of(number, alone=alone)
        return counted, window, first

    def counts(self) -> Iterator[Counted]:
        """Yield the counts of all pieces."""
        shared = {number: sums for (number, alone), sums in self._sums.items() if not alone}
        if shared:
            yield list(shared), list(shared.values())
        yield from (([number], [sums]) for (number, alone), sums in self._sums.items() if alone)
