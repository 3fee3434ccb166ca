"""Estimate the memory that a merge takes, from specs and contracts alone: no tensor is read, and torch is not loaded.

Each module that takes memory in proportion to tensors says how much, next to the code that takes it. Here these numbers
are added up for what is in memory at the same time. Memory that libraries take inside a decomposition is not counted,
except for an allowance.
"""

from __future__ import annotations

from itertools import chain, repeat
from typing import TYPE_CHECKING, TypeVar

from git_theta_ext.merging.devices.cpu import Cpu
from git_theta_ext.merging.devices.device import CPU
from git_theta_ext.merging.devices.methods import have_matrices
from git_theta_ext.merging.execution.held import held_bytes
from git_theta_ext.merging.execution.stream import results_bytes
from git_theta_ext.merging.execution.tasks import contracts_of, members_of
from git_theta_ext.merging.execution.work import block_elements, gathered_bytes, piece_bytes, rows_bytes
from git_theta_ext.merging.thresholds.scopes import (
    changed_specs,
    counted_for,
    counted_together,
    scopes,
    values_of_scope,
)
from git_theta_ext.records import dataclass
from git_theta_ext.store.batches import waiting_bytes
from git_theta_ext.store.read_ahead import largest_piece, reading_bytes
from git_theta_ext.util.threads import largest_sum

if TYPE_CHECKING:
    from collections.abc import Hashable, Iterable, Iterator, Sequence

    from git_theta_ext.interfaces import MergeContract
    from git_theta_ext.merging.execution.tasks import Task
    from git_theta_ext.merging.planning.counted import Changed
    from git_theta_ext.merging.planning.plan import Plan
    from git_theta_ext.merging.planning.units import PairDecision
    from git_theta_ext.model.tensor import TensorSpec

Item = TypeVar("Item")


@dataclass(frozen=True)
class DeviceMemory:
    """How much memory a device has, and how much work it does at a time.

    Attributes:
        name: Name of the device.
        threads: Number of threads that read for it.
        lanes: Number of pieces that are merged on it at the same time.
        span: Number of chunks in a piece.
        free: Bytes of free memory; None if this is unlimited or unknown.
        matrices_only: Whether it only gets what multiplies or decomposes matrices.
    """

    name: str
    threads: int
    lanes: int
    span: int
    free: int | None = None
    matrices_only: bool = False

    @classmethod
    def of(cls, name: str, threads: int, free: int | None = None, *, matrices_only: bool = False) -> DeviceMemory:
        """Return the memory of a device, from its name."""
        if name == CPU:
            return cls(name, threads, threads, 1)
        from git_theta_ext.merging.devices import cuda

        return cls(name, threads, min(threads, cuda.LANES), cuda.SPAN, free, matrices_only)

    @property
    def host(self) -> bool:
        """Whether it shares its memory with tensors that are read ahead and with results."""
        return self.name == CPU

    def holds(self, task: Task) -> bool:
        """Return whether there is enough memory for a task."""
        return self.free is None or need(self, task) <= self.free

    def takes(self, contracts: Sequence[MergeContract]) -> bool:
        """Return whether it merges by methods with these contracts, none if the size of the tensors forbids it."""
        return not self.matrices_only or have_matrices(contracts)

    def may_merge(self, task: Task) -> bool:
        """Return whether it merges by the task's method, and has enough memory."""
        return self.takes([task.method.contract]) and self.holds(task)

    @property
    def takes_all(self) -> bool:
        """Whether it may merge every task."""
        return self.free is None and not self.matrices_only

    def tasks(self, tasks: Sequence[Task]) -> list[Task]:
        """Return the tasks that it may merge."""
        return list(tasks) if self.takes_all else [task for task in tasks if self.may_merge(task)]

    def pairs(self, pairs: Iterable[PairDecision]) -> list[PairDecision]:
        """Return the LoRAs that it merges."""
        return [pair for pair in pairs if self.takes(contracts_of([pair]))]


@dataclass(frozen=True)
class Budget:
    """What the computations of a merge take.

    Attributes:
        parameters: Number of parameters that are computed.
        reads: Bytes of the tensors that they are computed from.
        methods: Names of the methods, sorted.
        peaks: Each device with the most bytes of memory that values take on it.
        spilled: Parameters that are merged on the CPU because no device that would merge them has enough memory.
    """

    parameters: int
    reads: int
    methods: tuple[str, ...]
    peaks: tuple[tuple[str, int], ...]
    spilled: tuple[str, ...] = ()


def threads_each(threads: int, devices: int) -> int:
    """Return the number of threads that read for each of the devices that share the work."""
    return max(1, threads // devices)


def budget(
    plan: Plan, tasks: Sequence[Task], devices: Sequence[DeviceMemory], spare: DeviceMemory | None = None
) -> Budget:
    """Estimate what a merge takes.

    Args:
        plan: The plan of the merge.
        tasks: The tensors to compute, without the LoRAs that are merged as pairs.
        devices: The devices that share the work.
        spare: The device that merges tensors that are too large for the others, or that the others do not take.
    """
    held = [(device, device.tasks(tasks), device.pairs(plan.pairs)) for device in devices]
    merged = {task.name for _, some, _ in held for task in some}
    rest = [task for task in tasks if task.name not in merged]
    spilled = [task for task in rest if any(device.takes([task.method.contract]) for device in devices)]
    rest_of_pairs = [pair for pair in plan.pairs if not any(device.pairs([pair]) for device in devices)]
    held += [(spare, rest, rest_of_pairs)] if spare is not None and (rest or rest_of_pairs) else []
    members = members_of(tasks) + [member for pair in plan.pairs for member in pair.inputs(plan.sides)]
    methods = {task.choice.method for task in tasks} | {pair.choice.method for pair in plan.pairs}
    return Budget(
        sum(len(task.names) for task in tasks) + sum(len(pair.members) for pair in plan.pairs),
        sum(member.spec.nbytes for member in members),
        tuple(sorted(methods)),
        tuple((device.name, _peak(device, plan, some, pairs)) for device, some, pairs in held),
        tuple(task.name for task in spilled),
    )


def need(device: DeviceMemory, task: Task) -> int:
    """Return the bytes that merging one task takes on a device."""
    if not task.streams:
        return rows_bytes(task) + (0 if device.host else _library_bytes())
    return largest_sum(device.lanes, _pieces(device, [task]))


def merging_job_bytes(tasks: Sequence[Task], threads: int) -> int:
    """Return the most bytes that a job takes that merges tensors."""
    device = DeviceMemory.of(CPU, threads)
    streamed, whole = ([task for task in tasks if task.streams is streams] for streams in (True, False))
    merging = largest_sum(device.lanes, _pieces(device, streamed))
    merging += results_bytes([task.spec.nbytes for task in streamed])
    alone = max(map(rows_bytes, whole), default=0) + max(map(gathered_bytes, whole), default=0)
    reading = _reading(device, ([*_specs(task), task.spec] for task in streamed))
    reading += _reading(device, ([spec] for task in whole for spec in _specs(task)))
    return merging + alone + reading + waiting_bytes([task.spec.nbytes for task in tasks])


def counting_job_bytes(changes: Sequence[Changed], threads: int, bins: int) -> int:
    """Return the most bytes that a job takes that counts the magnitudes of changes, in some bins of each side."""
    from git_theta_ext.merging.thresholds.search import histogram_bytes

    device, scopes = DeviceMemory.of(CPU, threads), max(1, bins)
    counting = largest_sum(device.lanes, _countings(device, changes, scopes))
    histograms = [histogram_bytes(change, scopes) for change in changes]
    return counting + sum(histograms[:1]) * 2 + _reading(device, map(changed_specs, changes), histograms)


def _peak(device: DeviceMemory, plan: Plan, tasks: Sequence[Task], pairs: Sequence[PairDecision]) -> int:
    """Return the most bytes that are in a device's memory at once; the phases of a merge follow each other."""
    streamed, whole = ([task for task in tasks if task.streams is streams] for streams in (True, False))
    plain = [task for task in streamed if not task.method.contract.trims]
    trimmed = scopes(tasks)
    merging = largest_sum(device.lanes, _pieces(device, streamed))
    counting = _counting(device, plan, trimmed) if trimmed else 0
    of_pairs, factors = _pair_bytes(plan, pairs) if pairs else ([], 0)
    alone = [rows_bytes(task) for task in whole] + of_pairs
    if not device.host:
        elementwise = all(task.method.contract.granularity == "element" for task in tasks) and not pairs
        return max(merging, counting, *alone, 0) + (0 if elementwise else _library_bytes())
    reading = max(
        _reading(device, ([*_specs(task), task.spec] for task in streamed)),
        _reading(device, ([spec] for task in whole for spec in _specs(task))),
    )
    merging += results_bytes([task.spec.nbytes for task in streamed])
    everything = [list(chain.from_iterable(some)) for some in counted_together(trimmed)]
    values = [*(values_of_scope(plan, some) for some in everything), members_of(plain)]
    in_memory = max(map(held_bytes, values))
    gathered = max((gathered_bytes(task) for task in whole), default=0)
    results = [task.spec for task in tasks] + [spec for pair in pairs for spec in pair.specs.values()]
    stored = waiting_bytes([spec.nbytes for spec in results])
    gathered += factors
    return max(merging + reading, counting, max(alone, default=0) + gathered + reading) + stored + in_memory


def _counting(device: DeviceMemory, plan: Plan, trimmed: Sequence[Sequence[Task]]) -> int:
    """Return the most bytes that finding the thresholds of some scopes takes."""
    from git_theta_ext.merging.thresholds.search import histogram_bytes  # most methods trim nothing
    from git_theta_ext.merging.thresholds.windows import windows_bytes

    changes = [change for scope in trimmed for change in counted_for(plan, scope) if change[1]]
    together = max(map(len, counted_together(trimmed)))
    counting = largest_sum(device.lanes, _countings(device, changes, together))
    if not device.host:
        return counting
    histograms = [histogram_bytes(change, together) for change in changes]
    return (
        counting + _reading(device, map(changed_specs, changes), histograms) + windows_bytes(changes, len(plan.sides))
    )


def _pair_bytes(plan: Plan, pairs: Sequence[PairDecision]) -> tuple[list[int], int]:
    """Return the bytes that merging each of some LoRAs takes, and the most bytes of factors that are read together."""
    from git_theta_ext.merging.execution.pairs import pair_bytes, together_bytes  # most models have none

    return [pair_bytes(plan.sides, pair) for pair in pairs], together_bytes(plan.sides, pairs)


def _library_bytes() -> int:
    """Return the bytes that libraries of matrices take on a device with its own memory."""
    from git_theta_ext.merging.devices import cuda

    return cuda.LIBRARY_BYTES


def _pieces(device: DeviceMemory, tasks: Iterable[Task]) -> Iterator[tuple[int, int]]:
    """Yield the bytes that merging a piece of tasks that stream takes, and the number of such pieces."""
    keyed = ((task, (id(task.choice), id(task.spec), *map(id, _specs(task)))) for task in tasks)
    for task, times in _alike(keyed):
        elements, count = largest_piece(task.spec, device.span)
        block = block_elements(task, elements, Cpu.block) if device.host else elements
        yield piece_bytes(task, block), count * times


def _countings(device: DeviceMemory, changes: Iterable[Changed], scopes: int) -> Iterator[tuple[int, int]]:
    """Yield the bytes that counting a piece of changes takes, and the number of such pieces."""
    from git_theta_ext.merging.thresholds.search import counting_bytes

    for change, times in _alike((change, tuple(map(id, changed_specs(change)))) for change in changes):
        elements, count = largest_piece(change[0].spec, device.span)
        yield counting_bytes(change, elements, scopes), count * times


def _alike(items: Iterable[tuple[Item, Hashable]]) -> Iterable[tuple[Item, int]]:
    """Return one of the items that have the same key, and their number: a model has few shapes of many tensors.

    Equal specs are mostly the same object, and their identities are compared much faster.
    """
    counted: dict[Hashable, tuple[Item, int]] = {}
    for item, key in items:
        counted[key] = (item, counted.get(key, (item, 0))[1] + 1)
    return counted.values()


def _reading(device: DeviceMemory, groups: Iterable[Sequence[TensorSpec]], results: Iterable[int] = repeat(0)) -> int:
    return reading_bytes(zip(groups, results, strict=False), span=device.span, threads=device.threads)


def _specs(task: Task) -> list[TensorSpec]:
    return [member.spec for member in task.members]
