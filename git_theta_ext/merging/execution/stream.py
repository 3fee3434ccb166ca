"""Run merge methods on stored tensors: read ahead in threads, and merge piece by piece."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

from git_theta_ext.errors import CorruptError, MergeError, MissingError
from git_theta_ext.merging.devices.cpu import Cpu
from git_theta_ext.merging.devices.device import CPU
from git_theta_ext.merging.execution.fused import merged_in_memory
from git_theta_ext.merging.execution.work import MergedTensor, TensorMerge
from git_theta_ext.records import replace

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterator, Sequence

    from git_theta_ext.merging.devices.device import Device
    from git_theta_ext.merging.execution.pieces import MergedPiece
    from git_theta_ext.merging.execution.tasks import Task
    from git_theta_ext.merging.execution.work import SignElection
    from git_theta_ext.model.manifest import Parameter
    from git_theta_ext.store.read_ahead import DecodedPiece, Work
    from git_theta_ext.store.tensor_store import TensorStore


def read_parameters(  # noqa: PLR0913 - as Store.read_aligned
    store: TensorStore,
    groups: Sequence[Sequence[Parameter]],
    work: Work | None = None,
    *,
    verify: bool = True,
    span: int = 1,
    threads: int = 0,
) -> Iterator[DecodedPiece]:
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
    """Compute tasks; a task that cannot be read or merged gives a result with the reason.

    Small tensors in memory are merged together, and come first. The others are merged in order.

    Args:
        store: Holds the values.
        device: Where to compute; what it has too little memory for, or fails at, is merged on the CPU.
        tasks: The tasks.
        election: The thresholds, and the majority that breaks ties.
        advance: Called with the size in bytes of each result.
        threads: Number of threads that read and merge; 0 for the store's own number.

    Raises:
        PluginError: A method violates its contract.
        StoreError: The store cannot be read.
    """
    done = set()
    if device.fused and not election.ordered:
        for task, data, part in merged_in_memory(store, tasks, election):
            done.add(task.name)
            yield MergedTensor(task, data, "", part.votes, part.ties, election.majority)
            advance(task.spec.nbytes)
    yield from _in_order(store, device, [task for task in tasks if task.name not in done], election, advance, threads)


def _in_order(  # noqa: PLR0913, PLR0917 - as run
    store: TensorStore,
    device: Device,
    tasks: Sequence[Task],
    election: SignElection,
    advance: Callable[[int], None],
    threads: int,
) -> Generator[MergedTensor, None, None]:
    remaining = list(tasks)
    while remaining:
        trims, reason, moved = list(election.trims), "", ""
        try:
            for merged in _read_and_merged(store, device, tuple(remaining), election, threads):
                del remaining[0]
                trims = list(election.trims)
                yield merged
                advance(merged.task.spec.nbytes)
        except (MergeError, MissingError, CorruptError) as error:
            reason = error.message
        except RuntimeError as error:
            from git_theta_ext.merging.devices.cuda import failure_of

            moved = "" if device.name == CPU else failure_of(device.name, error)
            if not moved:
                raise
        # The errors are released by now, and with them the tensors that they referenced.
        if moved:
            from git_theta_ext.merging.devices.cuda import give_back_memory

            give_back_memory()
            election.trims = trims
            for merged in _in_order(store, Cpu(), [remaining.pop(0)], election, advance, threads):
                yield replace(merged, moved=moved)
        elif remaining:
            failed = remaining.pop(0)
            yield MergedTensor(failed, None, reason)
            advance(failed.spec.nbytes)


def _read_and_merged(
    store: TensorStore, device: Device, tasks: Sequence[Task], election: SignElection, threads: int
) -> Iterator[MergedTensor]:
    # Members of tasks that stream are read in step. Those of other tasks may differ in size, and are read one by one.
    reads = [
        (index, members)
        for index, task in enumerate(tasks)
        for members in ([tuple(range(len(task.members)))] if task.streams else [(n,) for n in range(len(task.members))])
    ]
    groups = [[tasks[index].members[member] for member in members] for index, members in reads]
    started = _StartedMerges(tasks, device, election)

    def ahead(piece: DecodedPiece) -> MergedPiece | None:
        """Merge a piece in the thread that decoded it, if pieces do not depend on each other."""
        index, _ = reads[piece.group]
        return (
            started.merge_of(index).merge(piece.element, piece.chunks)
            if tasks[index].streams and not election.ordered
            else None
        )

    for piece in read_parameters(store, groups, ahead, span=device.span, threads=threads):
        index, members = reads[piece.group]
        if piece.result is not None:
            started.merge_of(index).keep(piece.result)
        elif piece.chunks and tasks[index].streams:
            started.merge_of(index).keep(started.merge_of(index).merge(piece.element, piece.chunks))
        elif piece.chunks:
            started.merge_of(index).gather(members[0], piece.element, piece.data)
        elif piece.group + 1 == len(reads) or reads[piece.group + 1][0] != index:
            yield started.pop(index).done()


class _StartedMerges:
    """The merges in progress; whichever thread has the first piece of a task starts its merge."""

    def __init__(self, tasks: Sequence[Task], device: Device, election: SignElection) -> None:
        self._tasks = tasks
        self._device = device
        self._election = election
        self._lock = threading.Lock()
        self._merges: dict[int, TensorMerge] = {}

    def merge_of(self, index: int) -> TensorMerge:
        with self._lock:
            if index not in self._merges:
                self._merges[index] = TensorMerge(self._tasks[index], self._device, self._election)
            return self._merges[index]

    def pop(self, index: int) -> TensorMerge:
        merge = self.merge_of(index)  # a tensor without elements has no piece that started it
        del self._merges[index]
        return merge
