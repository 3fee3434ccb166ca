"""Foresee the memory that a merge's computations need: from specs and contracts alone, without a tensor or torch.

What counts are values: those that are read ahead, the inputs as the numbers that are computed with, what methods hold
besides (``MergeContract.scratch``), results that are gathered and those that wait to be stored. What libraries take
inside a decomposition does not, but for an allowance.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from heapq import nlargest
from itertools import chain, repeat
from typing import TYPE_CHECKING

from git_theta_ext.merging.devices import cuda
from git_theta_ext.merging.devices.device import CPU
from git_theta_ext.merging.execution.tasks import chunk_elements
from git_theta_ext.merging.thresholds.radix_select import HISTOGRAM_BYTES, SCRATCH
from git_theta_ext.merging.thresholds.scopes import counted_for, scopes
from git_theta_ext.model.floats import is_wide
from git_theta_ext.registry import find_pair
from git_theta_ext.store.batches import BATCH_BYTES
from git_theta_ext.util.threads import window

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from git_theta_ext.merging.execution.tasks import Task
    from git_theta_ext.merging.planning.plan import Plan
    from git_theta_ext.merging.planning.units import PairDecision
    from git_theta_ext.merging.thresholds.scopes import Changed
    from git_theta_ext.model.manifest import Parameter
    from git_theta_ext.model.tensor import TensorSpec

_LIBRARIES = 1 << 26
"""Bytes on a CUDA device for the workspaces of matrix products, and for what allocations are rounded up by."""

_SMALL = 1 << 16
"""Bytes of a piece's extremes and votes: CUDA gives no tensor less than 512."""


@dataclass(frozen=True)
class DeviceMemory:
    """How much memory a device has, and how much work it does at a time.

    Attributes:
        name: The device's.
        threads: That read for it.
        lanes: How many pieces are merged there at a time.
        span: Chunks of a piece.
        free: Bytes of memory that it has left, None where that is not limited or not known.
    """

    name: str
    threads: int
    lanes: int
    span: int
    free: int | None = None

    @classmethod
    def of(cls, name: str, threads: int, free: int | None = None) -> DeviceMemory:
        """Return what is known of a device's memory."""
        if name == CPU:
            return cls(name, threads, threads, 1)
        return cls(name, threads, min(threads, cuda.LANES), cuda.SPAN, free)

    @property
    def host(self) -> bool:
        """Whether what is read ahead and what comes out lies in the same memory."""
        return self.name == CPU

    def holds(self, task: Task) -> bool:
        """Tell whether there is memory for a task."""
        return self.free is None or need(self, task) <= self.free


@dataclass(frozen=True)
class Budget:
    """What a merge's computations come to.

    Attributes:
        parameters: Number of those that are computed.
        reads: Bytes of what they are computed from.
        methods: By which they are, in order of names.
        peaks: The devices, and the bytes of memory that values take there at most.
        spilled: Parameters that are merged on the processor as no other device has memory for them.
    """

    parameters: int
    reads: int
    methods: tuple[str, ...]
    peaks: tuple[tuple[str, int], ...]
    spilled: tuple[str, ...] = ()


def threads_each(threads: int, devices: int) -> int:
    """Return how many of some threads read for each of the devices that share the work."""
    return max(1, threads // devices)


def budget(
    plan: Plan, tasks: Sequence[Task], devices: Sequence[DeviceMemory], spare: DeviceMemory | None = None
) -> Budget:
    """Foresee a merge.

    Args:
        plan: Of the merge.
        tasks: What is computed of it, besides LoRAs.
        devices: Those that share the work.
        spare: Where what is too large for these is merged.
    """
    held = [(device, [task for task in tasks if device.holds(task)]) for device in devices]
    spilled = [task for task in tasks if not any(device.holds(task) for device in devices)]
    held += [(spare, spilled)] if spare is not None and spilled else []
    members = [member for task in tasks for member in task.members]
    members += [member for pair in plan.pairs for member in _members(plan, pair)]
    methods = {task.choice.method for task in tasks} | {pair.choice.method for pair in plan.pairs}
    return Budget(
        sum(len(task.names) for task in tasks) + sum(len(_names(pair)) for pair in plan.pairs),
        sum(member.spec.nbytes for member in members),
        tuple(sorted(methods)),
        tuple((device.name, _peak(device, plan, some)) for device, some in held),
        tuple(task.name for task in spilled),
    )


def need(device: DeviceMemory, task: Task) -> int:
    """Return the bytes that merging one task takes on a device."""
    if not task.streams:
        return _block(task) + (0 if device.host else _LIBRARIES)
    return _largest(device.lanes, [_piece(device, task)])


def _peak(device: DeviceMemory, plan: Plan, tasks: Sequence[Task]) -> int:
    """Return the bytes of all that is in a device's memory at once; the phases of a merge follow one another."""
    streamed, whole = ([task for task in tasks if task.streams is streams] for streams in (True, False))
    results = [task.spec.nbytes for task in tasks] + [
        spec.nbytes for pair in plan.pairs for spec in pair.specs.values()
    ]
    counted = [group for scope in scopes(tasks) for group in counted_for(plan, scope) if group[1]]
    merging = _largest(device.lanes, (_piece(device, task) for task in streamed))
    counting = _largest(device.lanes, (_counting(device, group) for group in counted))
    alone = [_block(task) for task in whole] + [_pair(plan, pair) for pair in plan.pairs]
    if not device.host:
        exact = all(task.method.contract.granularity == "element" for task in tasks) and not plan.pairs
        return max(merging, counting, *alone, 0) + (0 if exact else _LIBRARIES)
    ahead = window(device.threads)
    largest = max(results, default=0)
    reading = max(
        _largest(ahead, (_raw(device, [*_specs(task), task.spec]) for task in streamed)),
        _largest(ahead, (_raw(device, [spec]) for task in whole for spec in _specs(task))),
    )
    merging += min(sum(task.spec.nbytes for task in streamed), 2 * largest)
    counting += _largest(ahead, (_counted(device, group) for group in counted))
    gathered = max((sum(spec.nbytes for spec in _specs(task)) + task.spec.nbytes for task in whole), default=0)
    stored = min(sum(results), 2 * (BATCH_BYTES + largest))
    return max(merging + reading, counting, max(alone, default=0) + gathered + reading) + stored


def _largest(count: int, sizes: Iterable[tuple[int, int]]) -> int:
    """Return the sum of the largest of some sizes, each of which is there a number of times."""
    return sum(nlargest(count, chain.from_iterable(repeat(size, min(times, count)) for size, times in sizes)))


def _cut(device: DeviceMemory, spec: TensorSpec) -> tuple[int, int]:
    """Return the elements of a tensor's largest piece, and the number of its pieces."""
    elements = min(spec.elements, device.span * chunk_elements(spec))
    return elements, -(-spec.elements // max(elements, 1))


def _raw(device: DeviceMemory, specs: Sequence[TensorSpec]) -> tuple[int, int]:
    """Return the bytes of a piece of tensors that are read side by side, and the number of pieces."""
    elements, count = _cut(device, specs[0])
    return sum(elements * spec.dtype.bits // 8 for spec in specs), count


def _piece(device: DeviceMemory, task: Task) -> tuple[int, int]:
    """Return the bytes that a piece of a task that streams takes while it is merged, and the number of pieces."""
    elements, count = _cut(device, task.spec)
    numbers = elements * task.numbers
    raw = elements * max(spec.dtype.bits for spec in _specs(task)) // 8
    return _merging(task, (numbers,), numbers * len(task.members), raw), count


def _block(task: Task) -> int:
    """Return the bytes that the largest block of a task that does not stream takes while it is merged."""
    shape = task.common.shape
    if shape:
        shape = (min(task.rows, shape[0]), *shape[1:])
    elements = math.prod(shape)
    cut = [(elements if task.has_rows(member) else member.spec.elements, member.spec) for member in task.members]
    raw = max(count * spec.dtype.bits // 8 for count, spec in cut)
    numbers = (task.numbers,) if task.numbers > 1 else ()
    return _merging(task, (*shape, *numbers), sum(count for count, _ in cut) * task.numbers, raw)


def _merging(task: Task, shape: tuple[int, ...], inputs: int, raw: int) -> int:
    """Return the bytes of a piece's inputs, of what its method holds, and of the result, as numbers and rounded."""
    width = _width([task.spec, *_specs(task)])
    numbers = math.prod(shape)
    scratch = math.ceil(task.method.contract.scratch(shape, len(task.branches)) * width)
    rounded = numbers * task.spec.dtype.bits // (8 * task.numbers) + numbers * 4
    return inputs * width + max(raw, numbers * width + max(scratch, rounded)) + _SMALL


def _counting(device: DeviceMemory, group: Changed) -> tuple[int, int]:
    """Return the bytes that a piece takes while its magnitudes are counted, and the number of pieces."""
    specs = _counted_specs(group)
    elements, count = _cut(device, specs[0])
    return elements * (4 * _width(specs) + 4 * SCRATCH) + len(group[1]) * HISTOGRAM_BYTES, count


def _counted(device: DeviceMemory, group: Changed) -> tuple[int, int]:
    """Return the bytes of a piece that is read to be counted, and of its histograms, and the number of pieces."""
    nbytes, count = _raw(device, _counted_specs(group))
    return nbytes + len(group[1]) * HISTOGRAM_BYTES, count


def _counted_specs(group: Changed) -> list[TensorSpec]:
    base, values = group
    return [base.spec, *(value.spec for value in values.values())]


def _pair(plan: Plan, pair: PairDecision) -> int:
    """Return the bytes that a LoRA takes while it is merged."""
    specs = [member.spec for member in _members(plan, pair)]
    width = _width(specs)
    a, b = (pair.specs[name].shape for name in pair.names)
    ranks = sum(plan.sides[number].parameters[pair.names[0]].spec.shape[0] for number in pair.changed_by)
    scratch = find_pair(pair.choice.method).contract.scratch((b[0], a[1], ranks), len(pair.changed_by))
    return 2 * sum(spec.elements for spec in specs) * width + math.ceil(scratch * width)


def _members(plan: Plan, pair: PairDecision) -> list[Parameter]:
    return [plan.sides[number].parameters[name] for number in pair.changed_by for name in _names(pair)]


def _names(pair: PairDecision) -> tuple[str, ...]:
    return (*pair.names, *([] if pair.alpha is None else [pair.alpha]))


def _specs(task: Task) -> list[TensorSpec]:
    return [member.spec for member in task.members]


def _width(specs: Iterable[TensorSpec]) -> int:
    """Return the bytes of a number that is computed with."""
    return 8 if any(is_wide(spec.dtype) or spec.dtype.kind in ("int", "uint", "bool") for spec in specs) else 4
