"""Run merge methods over stored tensors: read ahead in threads, compute piece by piece, check, round, hand on."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from git_theta_ext.errors import CorruptError, MergeError, MissingError
from git_theta_ext.interfaces import Trim
from git_theta_ext.merging.pieces import Part, Terms, Values, check, equals, loaded, merge_piece, rounded
from git_theta_ext.merging.select import ALL_EQUALS

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from git_theta_ext.merging.device import Device
    from git_theta_ext.merging.tasks import Task
    from git_theta_ext.model.manifest import Parameter
    from git_theta_ext.store.blobs import Store
    from git_theta_ext.store.memory import Memory

    Work = Callable[[int, int, tuple[memoryview, ...]], Any]

_ROW_ELEMENTS = 1 << 22
"""About the elements of the pieces that methods of rows get."""


@dataclass(frozen=True)
class Merged:
    """What came of a task.

    Attributes:
        task: The task.
        data: Little-endian bytes of the merged tensor, None where it could not be merged.
        reason: Why it could not.
        votes: Sum of the signs that were elected.
        ties: Number of elements that the majority decided.
        majority: The sign that decided them.
    """

    task: Task
    data: bytearray | None
    reason: str = ""
    votes: int = 0
    ties: int = 0
    majority: int = 1


@dataclass
class Ballot:
    """What the pieces of one scope have in common.

    Attributes:
        trims: The threshold of each side of the merge; empty where the methods do not trim.
        majority: The sign that the elections of the scope came to so far.
    """

    trims: list[Trim] = field(default_factory=list)
    majority: int = 1

    @property
    def counts(self) -> bool:
        """Whether what a piece keeps depends on the pieces before it."""
        return any(trim.equal < ALL_EQUALS for trim in self.trims)

    def of(self, task: Task) -> tuple[Trim, ...]:
        """Return the thresholds of a task's branches."""
        return tuple(self.trims[number] for number in task.changers) if self.trims else ()

    def spend(self, task: Task, counts: Sequence[int]) -> None:
        """Note that so many elements that equal a branch's threshold are kept already."""
        for number, count in zip(task.changers, counts, strict=True):
            trim = self.trims[number]
            if trim.equal < ALL_EQUALS:
                self.trims[number] = Trim(trim.bits, max(0, trim.equal - count))


def readable(
    store: Store | Memory, groups: Sequence[Sequence[Parameter]], work: Work | None = None, *, verify: bool = True
) -> Iterator[tuple[int, int, tuple[memoryview, ...], Any]]:
    """Read tensors side by side; see ``Store.side_by_side``."""
    pairs = [[(member.digest, member.spec) for member in group] for group in groups]
    return store.side_by_side(pairs, work, verify=verify)


def run(
    store: Store | Memory, device: Device, tasks: Sequence[Task], ballot: Ballot, advance: Callable[[int], None]
) -> Iterator[Merged]:
    """Compute tasks in their order; what cannot be merged or read is told and passed over.

    Args:
        store: Holds the values.
        device: Where to compute.
        tasks: What to compute.
        ballot: Thresholds, which change with what is kept, and the majority that elections fall back on.
        advance: Told the number of bytes of each result.

    Raises:
        PluginError: A method does not keep its contract.
        StoreError: The store cannot be read.
    """
    done = 0
    while done < len(tasks):
        first = done
        begun: _Work | None = None

        def ahead(item: int, start: int, chunks: tuple[memoryview, ...], first: int = first) -> Part | None:
            """Merge a piece right where it was decoded, where pieces do not depend on each other."""
            task = tasks[first + item]
            if not (task.streams and device.threads) or ballot.counts:
                return None
            return merge_piece(
                task, device, loaded(task, device, chunks), Terms(ballot.of(task), ballot.majority), start
            )

        try:
            for item, start, chunks, part in readable(store, [task.members for task in tasks[first:]], ahead):
                begun = begun or _Work(tasks[first + item], device, ballot)
                if part is not None:
                    begun.keep(part, start)
                elif chunks:
                    begun.take(start, chunks)
                else:
                    result, begun = begun.done(), None
                    done += 1
                    yield result
                    advance(result.task.spec.nbytes)
        except (MergeError, MissingError, CorruptError) as error:
            yield Merged(tasks[done], None, error.message)
            advance(tasks[done].spec.nbytes)
            done += 1


class _Work:
    """One task on its way."""

    def __init__(self, task: Task, device: Device, ballot: Ballot) -> None:
        self.task = task
        self._device = device
        self._ballot = ballot
        self._majority = ballot.majority
        self._data = bytearray(task.spec.nbytes)
        self._parts: list[Part] = []
        self._waiting: deque[tuple[int, Callable[[], memoryview]]] = deque()
        self._whole = [] if task.streams else [bytearray(member.spec.nbytes) for member in task.members]

    def take(self, start: int, chunks: Sequence[memoryview]) -> None:
        """Take the next chunk of every member; ``start`` is the number of its first element."""
        if self.task.streams:
            self._merge(loaded(self.task, self._device, chunks), start)
            return
        for room, member, chunk in zip(self._whole, self.task.members, chunks, strict=True):
            offset = start * member.spec.dtype.bits // 8
            room[offset : offset + chunk.nbytes] = chunk

    def keep(self, part: Part, start: int) -> None:
        """Take a merged piece; ``start`` is the number of its first element."""
        self._parts.append(replace(part, data=lambda: memoryview(b"")))  # its bytes are kept by nobody else
        self._waiting.append((start * self.task.spec.dtype.bits // 8, part.data))
        self._drain(self._device.depth)

    def done(self) -> Merged:
        """Return what came of it.

        Raises:
            MergeError: An input is not finite, or the result does not fit.
        """
        if self._whole:
            self._merge_whole()
        self._drain(0)
        check([check for part in self._parts for check in part.checks])
        votes = sum(int(part.votes) for part in self._parts if part.votes is not None)
        ties = sum(int(part.ties) for part in self._parts if part.ties is not None)
        return Merged(self.task, self._data, "", votes, ties, self._majority)

    def _merge(self, values: Values, start: int) -> None:
        trims = self._ballot.of(self.task)
        self.keep(merge_piece(self.task, self._device, values, Terms(trims, self._majority), start), start)
        if self._ballot.counts:
            base, *branches = values.tensors[: 1 + len(self.task.branches)]
            equal = [equals(branch, base, trim) for branch, trim in zip(branches, trims, strict=True)]
            self._ballot.spend(self.task, equal)

    def _merge_whole(self) -> None:
        """Merge a tensor that was gathered, in blocks of rows where the method allows it."""
        task, common = self.task, self.task.common
        found = loaded(task, self._device, self._whole)
        check(found.checks)  # a decomposition of NaN does not end well
        numbers = () if task.numbers == 1 else (task.numbers,)
        values = [
            flat.reshape((*member.spec.shape, *numbers))
            for member, flat in zip(task.members, found.tensors, strict=True)
        ]
        rows = common.shape[0] if common.shape else 1
        step = max(rows, 1)
        if task.method.contract.granularity != "matrix" and common.elements and len(common.shape) > 1:
            step = max(1, _ROW_ELEMENTS * rows // common.elements)
        for first in range(0, max(rows, 1), step):
            last = min(first + step, rows)  # what one side appended comes behind
            block = [
                value[first:last] if by_rows and common.shape else value
                for value, by_rows in zip(values, task.by_rows, strict=True)
            ]
            self._merge(Values(block, []), first * (common.elements // max(rows, 1)))
        if task.grower is not None:
            self._append(task.branches[task.grower])

    def _append(self, grown: Parameter) -> None:
        """Copy the rows that one side appended."""
        room = self._whole[(self.task.base is not None) + self.task.branches.index(grown)]
        values = self._device.load(room, grown.spec.dtype, wide=self.task.wide)
        first = self.task.common.elements
        self.keep(rounded(self.task, self._device, values[first * self.task.numbers :], []), first)

    def _drain(self, depth: int) -> None:
        while len(self._waiting) > depth:
            offset, wait = self._waiting.popleft()
            data = wait()
            self._data[offset : offset + data.nbytes] = data
