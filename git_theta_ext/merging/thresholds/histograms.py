"""Count changes with the compiled module: all pieces together, each in one pass from stored elements to counters."""

from __future__ import annotations

from itertools import compress
from typing import TYPE_CHECKING

from git_theta_ext.coding.merge_kernels import count_differences, knows
from git_theta_ext.merging.execution.held import in_memory
from git_theta_ext.merging.thresholds.scopes import changed_specs
from git_theta_ext.util.streaming import HALF_BITS

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    import numpy as np
    from numpy.typing import NDArray

    from git_theta_ext.merging.planning.counted import Changed
    from git_theta_ext.merging.thresholds.search import Bins, Counted
    from git_theta_ext.merging.thresholds.windows import Windows
    from git_theta_ext.store.tensor_store import TensorStore


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

    def add(self, group: Changed, pieces: Sequence[Sequence[memoryview]]) -> list[bool]:
        """Count pieces, and return for each of them True, unless arrays have to count it.

        These are pieces of other element types or with values that are not finite, and those for several bins.

        Args:
            group: The change that they are pieces of, or one of several of the same sides and element types.
            pieces: The bytes of each piece in the base and in the changed values.
        """
        dtypes, numbers = [spec.dtype for spec in changed_specs(group)], list(group[1])
        if not knows(dtypes) or any(len(self._bins[number]) > 1 for number in numbers):
            return [False] * len(pieces)
        rooms = [self._rooms(number, alone=len(numbers) == 1) for number in numbers]
        counted = count_differences(pieces, dtypes, *zip(*rooms, strict=True))
        if self._windows is not None and not all(counted):
            self._windows.complete = False
        return counted

    def add_held(self, store: TensorStore, groups: Sequence[Changed]) -> list[Changed]:
        """Count small changes whose values a store has in memory, and return the others.

        A call for each tensor takes longer than to count a tensor of a few kilobytes.
        """
        values = in_memory(store, [[base, *values.values()] for base, values in groups])
        if not values:
            return list(groups)
        alike: dict[tuple[object, ...], list[int]] = {}
        for index, group in enumerate(groups):
            names = tuple([spec.dtype.name for spec in changed_specs(group)])
            alike.setdefault((*group[1], names), []).append(index)
        counted: set[int] = set()
        for some in alike.values():
            counted.update(compress(some, self.add(groups[some[0]], [values[index] for index in some])))
        return [group for index, group in enumerate(groups) if index not in counted]

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
