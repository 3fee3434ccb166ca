"""Guess thresholds from a sample, and count the magnitudes near them in the first pass: mostly no second one is needed.

The guess decides only whether the values are read once more. The threshold is exact in any case.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from git_theta_ext.coding.merge_kernels import count_differences, knows
from git_theta_ext.merging.thresholds.scopes import changed_specs
from git_theta_ext.store.packs.format import chunk_count
from git_theta_ext.util.streaming import HALF_BITS, KthLargest

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    import numpy as np
    from numpy.typing import NDArray

    from git_theta_ext.merging.planning.counted import Changed
    from git_theta_ext.store.tensor_store import TensorStore

    # The indices of the sides that changed a piece, and the counts of each.
    Counted = tuple[list[int], list[NDArray[np.int64]]]

_BINS = 16
"""Number of bins of a window: they span 12 % of a magnitude."""

_STEP = 32
"""One of so many chunks is in the sample."""

_FEWEST = 64
"""Chunks, below which a sample tells too little, and a second pass costs little."""

_MOST_SIDES = 4
"""Sides, each of which takes memory for windows."""

_BYTES = 2 * (_BINS << HALF_BITS) * 8


def windows_bytes(changes: Sequence[Changed], sides: int) -> int:
    """Return the bytes that the windows of a scope take at most."""
    few = sum(chunk_count(base.spec) for base, _ in changes) < _FEWEST
    return 0 if few or sides > _MOST_SIDES else 2 * _BYTES * sides


class Windows:
    """The numbers of differences by all bits, of the magnitudes near the guessed threshold of each side.

    Args:
        bins: The guess for each side: the upper half of the threshold's bits.

    Attributes:
        complete: Whether all pieces were counted; set to False if one was not.
    """

    def __init__(self, bins: Sequence[int]) -> None:
        import numpy as np

        self.complete = True
        self._first = [max(0, guess - _BINS // 2) for guess in bins]
        # Pages that nothing is counted in take no memory.
        self._rooms = [[np.zeros((2, _BINS << HALF_BITS), np.int64) for _ in bins] for _ in range(2)]

    def of(self, number: int, *, alone: bool) -> tuple[NDArray[np.int64], int]:
        """Return where to count pieces of a side, and the bits of the smallest magnitude there.

        Args:
            number: Index of the side.
            alone: Whether no other side changed the piece.
        """
        return self._rooms[alone][number], self._first[number] << HALF_BITS

    def hold(self, bins: Sequence[int]) -> bool:
        """Return whether the bin of each side's threshold was counted."""
        within = all(first <= number < first + _BINS for first, number in zip(self._first, bins, strict=True))
        return self.complete and within

    def counted(self, bins: Sequence[int]) -> Iterator[Counted]:
        """Yield what the second pass would count in these bins, of all pieces together."""
        sides = list(range(len(bins)))
        shared, alone = ([self._bin(room, bins, side) for side in sides] for room in self._rooms)
        if len(sides) > 1:
            yield sides, shared
        for side in sides:
            yield [side], [alone[side]]

    def _bin(self, rooms: Sequence[NDArray[np.int64]], bins: Sequence[int], side: int) -> NDArray[np.int64]:
        start = (bins[side] - self._first[side]) << HALF_BITS
        return rooms[side][:, start : start + (1 << HALF_BITS)].reshape(-1)


def guess_windows(
    store: TensorStore, groups: Sequence[Changed], keep: int, sides: int, threads: int = 0
) -> Windows | None:
    """Return windows around thresholds that are guessed from a sample; None if that does not pay or is not possible.

    Args:
        store: Holds the values.
        groups: The changes.
        keep: How many of the largest magnitudes each side keeps.
        sides: Number of sides.
        threads: Number of threads that read.

    Raises:
        MissingError: A value is not in the store.
        CorruptError: A value is damaged.
    """
    import numpy as np

    if sides > _MOST_SIDES or sum([chunk_count(base.spec) for base, _ in groups]) < _FEWEST:
        return None
    chunks = [(index, number) for index, (base, _) in enumerate(groups) for number in range(chunk_count(base.spec))]
    dtypes = {spec.dtype for group in groups for spec in changed_specs(group)}
    if not knows(dtypes):
        return None
    sampled = [0] * sides
    upper = [np.zeros(1 << HALF_BITS, np.int64) for _ in range(sides)]
    for index, number in chunks[_STEP // 2 :: _STEP]:
        base, values = groups[index]
        members = [(member.digest, member.spec) for member in (base, *values.values())]
        for piece in store.read_aligned([members], threads=threads, numbers=[number]):
            if not piece.chunks:
                continue
            kinds, none = [member.spec.dtype for member in (base, *values.values())], np.zeros((2, 0), np.int64)
            uppers, some = [upper[side] for side in values], len(values)
            if not all(count_differences([piece.chunks], kinds, uppers, [none] * some, [0] * some)):
                return None
            for (side, value), chunk in zip(values.items(), piece.chunks[1:], strict=True):
                sampled[side] += chunk.nbytes * 8 // value.spec.dtype.bits
    changed = [sum(base.spec.elements for base, values in groups if side in values) for side in range(sides)]
    return Windows([_guess(*facts, keep) for facts in zip(upper, sampled, changed, strict=True)])


def _guess(upper: NDArray[np.int64], sampled: int, changed: int, keep: int) -> int:
    """Return the bin of the threshold in a sample of the changed elements; elements that did not change are zero."""
    if keep > changed or not sampled:
        return 0
    search = KthLargest(max(1, round(keep * sampled / changed)))
    half = len(upper) // 2
    search.narrow(upper[:half] + upper[half:])
    return search.bin
