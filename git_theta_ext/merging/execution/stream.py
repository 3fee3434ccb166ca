"""Run merge methods over stored tensors: read ahead in threads, merge piece by piece, gather, hand on."""

from __future__ import annotations

import threading
from dataclasses import replace
from typing import TYPE_CHECKING

from git_theta_ext.errors import CorruptError, MergeError, MissingError
from git_theta_ext.merging.devices.cpu import Cpu
from git_theta_ext.merging.devices.cuda import give_back_memory, is_out_of_memory
from git_theta_ext.merging.devices.device import CPU
from git_theta_ext.merging.execution.work import MergedTensor, TensorMerge

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterator, Sequence

    from git_theta_ext.merging.devices.device import Device
    from git_theta_ext.merging.execution.pieces import MergedPiece
    from git_theta_ext.merging.execution.tasks import Task
    from git_theta_ext.merging.execution.work import SignElection
    from git_theta_ext.model.manifest import Parameter
    from git_theta_ext.store.read_ahead import Piece, Work
    from git_theta_ext.store.tensor_store import TensorStore


def readable(  # noqa: PLR0913 - as Store.read_aligned
    store: TensorStore,
    groups: Sequence[Sequence[Parameter]],
    work: Work | None = None,
    *,
    verify: bool = True,
    span: int = 1,
    threads: int = 0,
) -> Iterator[Piece]:
    """Read the tensors of each group in step; see ``Store.read_aligned``."""
    pairs = [[(member.digest, member.spec) for member in group] for group in groups]
    return store.read_aligned(pairs, work, verify=verify, span=span, threads=threads)


def results_bytes(sizes: Sequence[int]) -> int:
    """Return the most bytes of results that are merged as they are read: one waits while the next is computed.

    Args:
        sizes: Size of each result.
    """
    return min(sum(sizes), 2 * max(sizes, default=0))


def run(  # noqa: PLR0913, PLR0917 - all that a merge has
    store: TensorStore,
    device: Device,
    tasks: Sequence[Task],
    election: SignElection,
    advance: Callable[[int], None],
    threads: int = 0,
) -> Generator[MergedTensor, None, None]:
    """Compute tasks in their order; what cannot be merged or read is told and passed over.

    Args:
        store: Holds the values.
        device: Where to compute; what it has no memory for is merged on the processor.
        tasks: What to compute.
        election: The thresholds, and the majority that breaks ties.
        advance: Told the number of bytes of each result.
        threads: That read and merge, the store's own number if 0.

    Raises:
        PluginError: A method does not keep its contract.
        StoreError: The store cannot be read.
    """
    left = list(tasks)
    while left:
        before, fault, lacking = list(election.trims), "", False
        try:
            for merged in _read_and_merged(store, device, tuple(left), election, threads):
                del left[0]
                before = list(election.trims)
                yield merged
                advance(merged.task.spec.nbytes)
        except (MergeError, MissingError, CorruptError) as error:
            fault = error.message
        except RuntimeError as error:
            if device.name == CPU or not is_out_of_memory(error):
                raise
            lacking = True
        # The errors are gone by now, and with them the tensors that they knew of.
        if lacking:
            give_back_memory()
            election.trims = before
            for merged in run(store, Cpu(), [left.pop(0)], election, advance, threads):
                yield replace(merged, lacking=device.name)
        elif left:
            failed = left.pop(0)
            yield MergedTensor(failed, None, fault)
            advance(failed.spec.nbytes)


def _read_and_merged(
    store: TensorStore, device: Device, tasks: Sequence[Task], election: SignElection, threads: int
) -> Iterator[MergedTensor]:
    # What streams is read side by side; the members of what does not may have any size, and come one after another.
    lots = [
        (number, lot)
        for number, task in enumerate(tasks)
        for lot in ([tuple(range(len(task.members)))] if task.streams else [(n,) for n in range(len(task.members))])
    ]
    groups = [[tasks[number].members[member] for member in lot] for number, lot in lots]
    begun = _Begun(tasks, device, election)

    def ahead(piece: Piece) -> MergedPiece | None:
        """Merge a piece right where it was decoded, where pieces do not depend on each other."""
        number, _ = lots[piece.group]
        return (
            begun.work(number).merge(piece.element, piece.chunks)
            if tasks[number].streams and not election.ordered
            else None
        )

    for piece in readable(store, groups, ahead, span=device.span, threads=threads):
        number, lot = lots[piece.group]
        if piece.result is not None:
            begun.work(number).keep(piece.result)
        elif piece.chunks and tasks[number].streams:
            begun.work(number).keep(begun.work(number).merge(piece.element, piece.chunks))
        elif piece.chunks:
            begun.work(number).gather(lot[0], piece.element, piece.data)
        elif piece.group + 1 == len(lots) or lots[piece.group + 1][0] != number:
            yield begun.pop(number).done()


class _Begun:
    """The tasks that are on their way, begun by whoever has their first piece."""

    def __init__(self, tasks: Sequence[Task], device: Device, election: SignElection) -> None:
        self._tasks = tasks
        self._device = device
        self._election = election
        self._lock = threading.Lock()
        self._works: dict[int, TensorMerge] = {}

    def work(self, number: int) -> TensorMerge:
        with self._lock:
            if number not in self._works:
                self._works[number] = TensorMerge(self._tasks[number], self._device, self._election)
            return self._works[number]

    def pop(self, number: int) -> TensorMerge:
        work = self.work(number)  # what has no elements was not begun yet
        del self._works[number]
        return work
