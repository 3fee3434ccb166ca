"""Find the thresholds of a scope: count the magnitudes of all changes in two passes, or in one, on all devices."""

from __future__ import annotations

from functools import partial
from itertools import chain
from math import floor
from typing import TYPE_CHECKING

from git_theta_ext.interfaces.arrays import array_namespace, astype
from git_theta_ext.merging.devices.cpu import Cpu
from git_theta_ext.merging.devices.cuda import failure_of
from git_theta_ext.merging.devices.device import CPU
from git_theta_ext.merging.devices.numbers import number_bytes
from git_theta_ext.merging.execution.parallel import interleaved
from git_theta_ext.merging.execution.stream import read_parameters
from git_theta_ext.merging.thresholds.histograms import Histograms
from git_theta_ext.merging.thresholds.radix_select import HISTOGRAM_BYTES, SCRATCH_BYTES, Selection, counts_in
from git_theta_ext.merging.thresholds.scopes import changed_specs, counted_for
from git_theta_ext.merging.thresholds.windows import guess_windows
from git_theta_ext.model.floats import is_wide
from git_theta_ext.records import dataclass

if TYPE_CHECKING:
    from collections.abc import Generator, Iterable, Iterator, Sequence
    from typing import Protocol

    import numpy as np
    from numpy.typing import NDArray

    from git_theta_ext.interfaces import Array
    from git_theta_ext.merging.devices.device import Device, Lane
    from git_theta_ext.merging.execution.scheduler import DeviceScheduler
    from git_theta_ext.merging.execution.tasks import Task
    from git_theta_ext.merging.planning.counted import Changed
    from git_theta_ext.merging.planning.plan import Plan
    from git_theta_ext.merging.thresholds.windows import Windows
    from git_theta_ext.store.read_ahead import DecodedPiece
    from git_theta_ext.store.tensor_store import TensorStore

    # The bins of the thresholds of each side, in ascending order; none in the first pass.
    Bins = Sequence[Sequence[int]]
    # The indices of the sides that changed a piece, and the counts of each.
    Counted = tuple[list[int], list[NDArray[np.int64]]]

    class Count(Protocol):
        """Counts the magnitudes of changes, in the second pass within the bins of the thresholds."""

        def __call__(self, groups: Sequence[Changed], bins: Bins, *, second_pass: bool) -> Iterator[Counted]:
            """Yield the counts of parts of the changes, which are to be added up."""


_SMALL = 1 << 14
"""Changes of at most so many elements are counted together."""
_TOGETHER = 1 << 16
"""Elements of such changes that wait; ``counts`` takes no more for them than for the histograms that they save."""


def search(count: Count, plan: Plan, scopes: Sequence[Sequence[Task]]) -> list[list[Selection]]:
    """Find the threshold of every side over each of some scopes that are counted together.

    Args:
        count: Counts the magnitudes of changes, such as ``counting_here`` does.
        plan: The plan of the merge.
        scopes: The tasks of each scope.

    Raises:
        MissingError: A value is not in the store.
        CorruptError: A value is damaged.
    """
    changed, sides = counted_for(plan, scopes[0]), range(len(plan.sides))
    zeros = [sum(base.spec.elements for base, values in changed if number not in values) for number in sides]
    selections = [[Selection(_kept(changed, tasks), zeros[number]) for number in sides] for tasks in scopes]
    groups = [group for group in changed if group[1]]
    for numbers, pieces in count(groups, [()] * len(sides), second_pass=False):
        for number, piece in zip(numbers, pieces, strict=True):
            for scope in selections:
                scope[number].add(piece, alone=len(numbers) == 1)
    for selection in chain.from_iterable(selections):
        selection.narrow()
    bins = [sorted({scope[number].bin for scope in selections}) for number in sides]
    for numbers, pieces in count(groups, bins, second_pass=True):
        for number, piece in zip(numbers, pieces, strict=True):
            by_bin = piece.reshape(len(bins[number]), -1)
            for scope in selections:
                scope[number].add(by_bin[bins[number].index(scope[number].bin)], alone=len(numbers) == 1)
    return selections


def _kept(changed: Sequence[Changed], tasks: Sequence[Task]) -> int:
    """Return how many of the largest magnitudes are kept in a scope."""
    total = sum(base.spec.elements for base, _ in changed)
    return min(total, floor(total * float(tasks[0].choice.options["density"])) + 1)


def counting_here(
    store: TensorStore, scheduler: DeviceScheduler, plan: Plan, scopes: Sequence[Sequence[Task]]
) -> Count:
    """Return a function that counts the magnitudes of changes for scopes together, on the devices of a scheduler.

    Its second pass reads nothing if the first one counted what is needed.
    """
    windows: Windows | None = None

    def count(groups: Sequence[Changed], bins: Bins, *, second_pass: bool) -> Iterator[Counted]:
        nonlocal windows
        shared = scheduler.work(groups, _nbytes, [tasks[0].method.contract for tasks in scopes])
        if second_pass and windows is not None and windows.hold(guessed := [within[0] for within in bins]):
            return windows.counted(guessed)
        windows = None
        if not second_pass and len(scopes) == 1 and all(device.fused for device, _ in shared):
            keep = _kept(counted_for(plan, scopes[0]), scopes[0])
            windows = guess_windows(store, groups, keep, len(plan.sides))
        share = partial(count_changes, store, bins=bins, threads=scheduler.threads, second_pass=second_pass)
        return interleaved([partial(share, device, some, windows=windows) for device, some in shared])

    return count


def histogram_bytes(change: Changed, scopes: int) -> int:
    """Return the bytes of the counts of a piece for some scopes together."""
    return len(change[1]) * HISTOGRAM_BYTES * scopes


def counting_bytes(change: Changed, elements: int, scopes: int) -> int:
    """Return the bytes that counting a piece takes on a device: four tensors of numbers, and what ``counts`` takes."""
    width = number_bytes(spec.dtype for spec in changed_specs(change))
    return elements * (4 * width + SCRATCH_BYTES) + histogram_bytes(change, scopes)


def _single(vector: Array) -> Array:
    return astype(vector, array_namespace(vector).float32, copy=False)


def _nbytes(group: Changed) -> int:
    base, values = group
    return base.spec.nbytes + sum(value.spec.nbytes for value in values.values())


@dataclass(frozen=True)
class _Uncounted:
    """The changes of each side to a small tensor."""

    vectors: Sequence[Array]


class _Waiting:
    """Small tensors that are counted together: there are many more counters than elements in each of them.

    Args:
        bins: As for ``counts``, for each side.
    """

    def __init__(self, bins: Bins) -> None:
        self._bins = bins
        self._changes: dict[tuple[int, ...], list[_Uncounted]] = {}
        self._elements = 0

    def add(self, numbers: Sequence[int], changes: _Uncounted) -> Iterator[Counted]:
        """Take the changes of some sides to a tensor, and count what waits if it is enough."""
        self._changes.setdefault(tuple(numbers), []).append(changes)
        self._elements += sum(vector.size for vector in changes.vectors)
        if self._elements > _TOGETHER:
            yield from self.count()

    def count(self) -> Iterator[Counted]:
        """Count what waits."""
        import numpy as np

        changes, self._changes, self._elements = self._changes, {}, 0
        for numbers, some in changes.items():
            sides = zip(numbers, zip(*(each.vectors for each in some), strict=True), strict=True)
            yield (
                list(numbers),
                [
                    counts_in(np.concatenate([np.ravel(vector) for vector in vectors]), self._bins[number])
                    for number, vectors in sides
                ],
            )


def count_changes(  # noqa: PLR0913 - all but one named
    store: TensorStore,
    device: Device,
    groups: Sequence[Changed],
    *,
    bins: Bins,
    threads: int,
    second_pass: bool,
    windows: Windows | None = None,
) -> Generator[Counted, None, None]:
    """Count the magnitudes of changes, piece by piece; the values are verified in the first pass.

    Args:
        store: Holds the values.
        device: Where to count.
        groups: The changes.
        bins: As for ``Count``.
        threads: Number of threads that read and count.
        second_pass: As for ``Count``.
        windows: Where the first pass counts what the second one would.
    """

    def counted(where: Device, group: Changed, chunks: Sequence[memoryview]) -> list[NDArray[np.int64]] | _Uncounted:
        base, values = group
        wide = any(is_wide(member.spec.dtype) for member in (base, *values.values()))

        def histograms(lane: Lane) -> list[NDArray[np.int64]] | _Uncounted:
            """Count in a lane, whose tensors are gone when this returns."""
            start = lane.load(chunks[0], base.spec.dtype, wide=wide)
            changes = (
                _single(lane.load(chunk, value.spec.dtype, wide=wide) - start)
                for value, chunk in zip(values.values(), chunks[1:], strict=True)
            )
            if where.name == CPU and base.spec.elements <= _SMALL:
                return _Uncounted(list(changes))
            return [counts_in(change, bins[number]) for number, change in zip(values, changes, strict=True)]

        with where.lane() as lane:
            return histograms(lane)

    histograms = Histograms(bins, windows)

    def count(piece: DecodedPiece) -> list[NDArray[np.int64]] | _Uncounted | None:
        if device.fused and all(histograms.add(rest[piece.group], [piece.chunks])):
            return None
        try:
            return counted(device, rest[piece.group], piece.chunks)
        except RuntimeError as error:
            if device.name == CPU or not failure_of(device.name, error):
                raise
        return counted(Cpu(), rest[piece.group], piece.chunks)  # to the same counts

    rest = histograms.add_held(store, groups) if device.fused else groups
    pairs = [[base, *values.values()] for base, values in rest]
    read = read_parameters(store, pairs, count, verify=not second_pass, span=device.span, threads=threads)
    yield from _together(read, rest, _Waiting(bins))
    yield from histograms.counts()


def _together(
    pieces: Iterable[DecodedPiece], groups: Sequence[Changed], waiting: _Waiting
) -> Generator[Counted, None, None]:
    """Yield the counts of pieces that are not counted yet, those of small tensors together."""
    for piece in pieces:
        if piece.result is None:
            continue
        numbers = list(groups[piece.group][1])
        if isinstance(piece.result, _Uncounted):
            yield from waiting.add(numbers, piece.result)
        else:
            yield numbers, piece.result
    yield from waiting.count()
