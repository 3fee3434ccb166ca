"""Run merge methods over stored tensors: read ahead in threads, compute piece by piece, check, round, hand on."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from git_theta_ext.errors import CorruptError, MergeError, MissingError, PluginError
from git_theta_ext.interfaces import Elected, Piece, Trim
from git_theta_ext.merge.select import ALL_EQUALS
from git_theta_ext.model.numbers import largest

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    import torch

    from git_theta_ext.merge.device import Device
    from git_theta_ext.merge.tasks import Task
    from git_theta_ext.model.dtypes import Dtype
    from git_theta_ext.model.manifest import Parameter
    from git_theta_ext.store.blobs import Store

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

    def of(self, task: Task) -> tuple[Trim, ...]:
        """Return the thresholds of a task's branches."""
        return tuple(self.trims[number] for number in task.changers) if self.trims else ()

    def spend(self, task: Task, counts: Sequence[int]) -> None:
        """Note that so many elements that equal a branch's threshold are kept already."""
        for number, count in zip(task.changers, counts, strict=True):
            trim = self.trims[number]
            if trim.equal < ALL_EQUALS:
                self.trims[number] = Trim(trim.bits, max(0, trim.equal - count))


def readable(store: Store, groups: Sequence[Sequence[Parameter]]) -> Iterator[tuple[int, int, tuple[memoryview, ...]]]:
    """Read tensors side by side; see ``Store.side_by_side``."""
    return store.side_by_side([[(member.digest, member.spec) for member in group] for group in groups])


def run(
    store: Store, device: Device, tasks: Sequence[Task], ballot: Ballot, advance: Callable[[int], None]
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
        try:
            for item, start, chunks in readable(store, [task.members for task in tasks[first:]]):
                begun = begun or _Work(tasks[first + item], device, ballot)
                if chunks:
                    begun.take(start, chunks)
                    continue
                merged, begun = begun.done(), None
                done += 1
                yield merged
                advance(merged.task.spec.nbytes)
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
        self._data = bytearray(task.spec.nbytes)
        self._checks: list[tuple[str, torch.Tensor]] = []
        self._votes: list[tuple[torch.Tensor, torch.Tensor]] = []
        self._majority = ballot.majority
        self._waiting: deque[tuple[int, Callable[[], memoryview]]] = deque()
        self._whole = [] if task.streams else [bytearray(member.spec.nbytes) for member in task.members]

    def take(self, start: int, chunks: Sequence[memoryview]) -> None:
        """Take the next chunk of every member; ``start`` is the number of its first element."""
        if self.task.streams:
            values = self._load(chunks)
            self._merge(values, start, start * self.task.spec.dtype.bits // 8)
            return
        for room, member, chunk in zip(self._whole, self.task.members, chunks, strict=True):
            offset = start * member.spec.dtype.bits // 8
            room[offset : offset + chunk.nbytes] = chunk

    def done(self) -> Merged:
        """Return what came of it.

        Raises:
            MergeError: An input is not finite, or the result does not fit.
        """
        if self._whole:
            self._merge_whole()
        self._drain(0)
        for what, good in self._checks:
            if not bool(good):
                raise MergeError(what)
        votes = sum(int(votes) for votes, _ in self._votes)
        ties = sum(int(ties) for _, ties in self._votes)
        return Merged(self.task, self._data, "", votes, ties, self._majority)

    def _load(self, chunks: Sequence[memoryview]) -> list[torch.Tensor]:
        values = []
        for what, member, chunk in zip(self._names(), self.task.members, chunks, strict=True):
            value = self._device.load(chunk, member.spec.dtype, wide=self.task.wide)
            values.append(value)
            if member.spec.dtype.kind in ("float", "complex") and value.numel():
                low, high = value.aminmax()
                self._checks.append((f"{what} has NaN or infinite values", low.isfinite() & high.isfinite()))
        return values

    def _names(self) -> list[str]:
        names = [*(["base"] if self.task.base is not None else []), *self.task.sides]
        return names + [f"the {kind} statistics" for kind, found in self.task.sidecars.items() for _ in found]

    def _merge_whole(self) -> None:
        """Merge a tensor that was gathered, in blocks of rows where the method allows it."""
        task = self.task
        common = task.common
        numbers = () if task.numbers == 1 else (task.numbers,)
        values = []
        for member, flat in zip(task.members, self._load([memoryview(room) for room in self._whole]), strict=True):
            value = flat.reshape((*member.spec.shape, *numbers))
            values.append(value[: common.shape[0]] if task.grower is not None else value)
        for what, good in self._checks:  # a decomposition of NaN does not end well
            if not bool(good):
                raise MergeError(what)
        rows = common.shape[0] if common.shape else 1
        step = max(rows, 1)
        if task.method.contract.granularity != "matrix" and common.elements and len(common.shape) > 1:
            step = max(1, _ROW_ELEMENTS * rows // common.elements)
        size = common.elements // max(rows, 1)
        for first in range(0, max(rows, 1), step):
            block = [value[first : first + step] if common.shape else value for value in values]
            self._merge(block, first * size * task.numbers, first * size * common.dtype.bits // 8)
        if task.grower is not None:
            self._append(task.branches[task.grower])

    def _append(self, grown: Parameter) -> None:
        """Copy the rows that one side appended."""
        room = self._whole[len(self.task.members) - len(self.task.branches) + self.task.branches.index(grown)]
        values = self._device.load(memoryview(room), grown.spec.dtype, wide=self.task.wide)
        first = self.task.common.elements
        offset = first * self.task.spec.dtype.bits // 8
        self._keep(values[first * self.task.numbers :], offset)

    def _merge(self, values: Sequence[torch.Tensor], start: int, offset: int) -> None:
        task, rest = self.task, list(values)
        base = rest.pop(0) if task.base is not None else None
        branches = tuple(rest[: len(task.branches)])
        del rest[: len(branches)]
        sidecars = {kind: tuple(rest.pop(0) for _ in found) for kind, found in task.sidecars.items()}
        trims = self._ballot.of(task)
        piece = Piece(
            name=task.name,
            base=base,
            branches=branches,
            options=task.choice.options,
            weights=task.weights,
            trims=trims,
            majority=self._majority,
            keys=task.keys,
            start=start,
            sidecars=sidecars,
        )
        found = task.method(piece)
        if isinstance(found, Elected):
            self._votes.append((found.votes, found.ties))
            found = found.value
        if any(trim.equal < ALL_EQUALS for trim in trims):
            self._ballot.spend(
                task, [_equals(branch, base, trim) for branch, trim in zip(branches, trims, strict=True)]
            )
        if found.shape != branches[0].shape or found.dtype != branches[0].dtype:
            raise PluginError(f"method {task.method.name!r} returned something else than a tensor like its branches")
        self._keep(found, offset)

    def _keep(self, values: torch.Tensor, offset: int) -> None:
        """Round and keep a part of the result."""
        if not values.numel():
            return
        dtype = self.task.spec.dtype
        least, most = _range(dtype)
        low, high = values.aminmax()  # NaN is neither
        self._checks.append((f"the result does not fit {dtype.name}", (low >= least) & (high <= most)))
        self._waiting.append((offset, self._device.save(values, dtype)))
        self._drain(self._device.depth)

    def _drain(self, depth: int) -> None:
        while len(self._waiting) > depth:
            offset, wait = self._waiting.popleft()
            data = wait()
            self._data[offset : offset + data.nbytes] = data


def _range(dtype: Dtype) -> tuple[float, float]:
    """Return the least and the largest value of an element type."""
    if dtype.kind == "bool":
        return 0, 1
    if dtype.kind == "uint":
        return 0, min((1 << dtype.bits) - 1, (1 << 63) - 1)
    if dtype.kind == "int":
        return -(1 << (dtype.bits - 1)), (1 << (dtype.bits - 1)) - 1
    return -largest(dtype), largest(dtype)


def _equals(branch: torch.Tensor, base: torch.Tensor | None, trim: Trim) -> int:
    """Return how many elements of a task vector equal its threshold."""
    import torch

    vector = (branch - base if base is not None else branch).to(torch.float32)
    return int(((vector.view(torch.int32) & 0x7FFFFFFF) == trim.bits).sum())
