"""Merge one piece: call the method, check all numbers, and write the rounded result."""

from __future__ import annotations

import math
import sys
from typing import TYPE_CHECKING

from git_theta_ext.errors import PluginError
from git_theta_ext.interfaces.arrays import array_namespace, astype
from git_theta_ext.interfaces.merges import Elected, Piece
from git_theta_ext.merging.devices.methods import merge_by
from git_theta_ext.merging.devices.numbers import number_bytes
from git_theta_ext.model.floats import largest
from git_theta_ext.records import dataclass, field

if TYPE_CHECKING:
    from collections.abc import Sequence

    from typing_extensions import Buffer

    from git_theta_ext.interfaces import Array, Trim
    from git_theta_ext.merging.devices.device import Lane
    from git_theta_ext.merging.execution.tasks import Task
    from git_theta_ext.model.dtypes import Dtype
    from git_theta_ext.model.manifest import Parameter


_CHECKS_BYTES = 1 << 16
"""For extremes and votes: CUDA allocates no less than 512 bytes for a tensor."""
_FINITE = (-sys.float_info.max, sys.float_info.max)


@dataclass(frozen=True)
class MergedPiece:
    """A merged piece.

    Attributes:
        fault: Why it cannot be used; empty if it can.
        votes: See ``Elected``.
        ties: See ``Elected``.
    """

    fault: str = ""
    votes: int = 0
    ties: int = 0

    def __add__(self, other: MergedPiece) -> MergedPiece:
        return MergedPiece(self.fault or other.fault, self.votes + other.votes, self.ties + other.ties)


@dataclass
class Checks:
    """Bounds for the numbers of some tensors, which are checked all at once when the device is done.

    Attributes:
        words: The message about a tensor that is out of bounds, and the bounds.
        extremes: The smallest and the largest number of each tensor; NaN if one is NaN.
    """

    words: list[tuple[str, float, float]] = field(default_factory=list)
    extremes: list[Array] = field(default_factory=list)

    def add(self, words: str, values: Array, least: float, most: float) -> None:
        """Check that all numbers of a tensor are within bounds."""
        if math.prod(values.shape):
            self.words.append((words, least, most))
            self.extremes += _extremes(values)

    def fault(self) -> str:
        """Wait for the device, and return the message about the first tensor out of bounds, or an empty string."""
        bounds = _on_host(self.extremes)
        for (words, least, most), low, high in zip(self.words, bounds[::2], bounds[1::2], strict=True):
            if not (least <= low and high <= most):
                return words
        return ""


@dataclass(frozen=True)
class Values:
    """The inputs of a piece, in the order of ``Task.members``, and the checks that they are finite."""

    tensors: list[Array]
    checks: Checks


def loaded(task: Task, lane: Lane, chunks: Sequence[Buffer], shapes: Sequence[Sequence[int]] | None = None) -> Values:
    """Move the values of a piece to the device.

    Args:
        task: The task that it is a piece of.
        lane: The lane of the device.
        chunks: Bytes of the piece in each of ``Task.members``.
        shapes: Their shapes; one-dimensional by default.
    """
    tensors, checks = [], Checks()
    for number, (member, chunk) in enumerate(zip(task.members, chunks, strict=True)):
        value = _loaded(task, lane, member, chunk)
        tensors.append(value if shapes is None else value.reshape(shapes[number]))
        if member.spec.dtype.kind in ("float", "complex"):
            checks.add(f"{task.whose[number]} has NaN or infinite values", value, *_FINITE)
        elif member.spec.dtype.name == "U64":  # computed as int64
            checks.add(f"{task.whose[number]} has integers of more than 63 bits", value, 0, (1 << 63) - 1)
    return Values(tensors, checks)


def _loaded(task: Task, lane: Lane, member: Parameter, chunk: Buffer) -> Array:
    return lane.load(chunk, member.spec.dtype, wide=task.wide)


@dataclass(frozen=True)
class PieceInputs:
    """What a piece's result depends on besides its values.

    Attributes:
        trims: A threshold for each branch.
        majority: The sign that decides elements without a majority.
    """

    trims: tuple[Trim, ...]
    majority: int


def merge_piece(  # noqa: PLR0913, PLR0917 - a piece consists of these
    task: Task, lane: Lane, values: Values, inputs: PieceInputs, start: int, room: Buffer
) -> MergedPiece:
    """Merge one piece.

    Args:
        task: The task that it is a piece of.
        lane: The lane that has its values.
        values: The values, from ``loaded``.
        inputs: Thresholds and majority.
        start: Index of the piece's first element.
        room: Memory for the bytes of the result.

    Raises:
        MergeError: The method rejects these values.
        PluginError: The method violates its contract.
    """
    rest = list(values.tensors)
    base = rest.pop(0) if task.base is not None else None
    branches = tuple(rest[: len(task.branches)])
    del rest[: len(branches)]
    piece = Piece(
        name=task.name,
        base=base,
        branches=branches,
        options=task.choice.options,
        weights=task.weights,
        trims=inputs.trims,
        majority=inputs.majority,
        keys=task.keys,
        start=start * task.numbers,
        sidecars={kind: tuple(rest.pop(0) for _ in tensors) for kind, tensors in task.sidecars.items()},
    )
    merged = merge_by(task.method, piece)
    value = merged.value if isinstance(merged, Elected) else merged
    if value.shape != branches[0].shape or value.dtype != branches[0].dtype:
        raise PluginError(f"method {task.method.name!r} did not return a tensor of the branches' shape and type")
    fault = _written(task, lane, value, values.checks, room)
    if not isinstance(merged, Elected):
        return MergedPiece(fault)
    votes, ties = _on_host([merged.votes, merged.ties])
    return MergedPiece(fault, int(votes), int(ties))


def merging_bytes(task: Task, shape: tuple[int, ...], inputs: int, raw: int) -> int:
    """Return the bytes that merging a piece takes: its inputs, what the method holds, and the result, also rounded.

    Args:
        task: The tensor that it is a piece of.
        shape: Shape of the piece, in numbers.
        inputs: How many numbers all inputs have.
        raw: Bytes of the largest input, before it is converted to numbers.
    """
    width = number_bytes(spec.dtype for spec in (task.spec, *(member.spec for member in task.members)))
    numbers = math.prod(shape)
    scratch = math.ceil(task.method.contract.scratch(shape, len(task.branches)) * width)
    rounded = numbers * task.spec.dtype.bits // (8 * task.numbers) + numbers * 4
    return inputs * width + max(raw, numbers * width + max(scratch, rounded)) + _CHECKS_BYTES


def copy_piece(task: Task, lane: Lane, member: int, chunk: Buffer, room: Buffer) -> MergedPiece:
    """Copy elements that only one of ``Task.members`` has, in the result's element type.

    Args:
        task: The task that they are a part of.
        lane: The lane that converts them.
        member: Index of the member that has them.
        chunk: Their bytes.
        room: Memory for the bytes of the result.
    """
    checks = Checks()
    value = _loaded(task, lane, task.members[member], chunk)
    checks.add(f"{task.whose[member]} has NaN or infinite values", value, *_FINITE)
    return MergedPiece(_written(task, lane, value, checks, room))


def _written(task: Task, lane: Lane, value: Array, checks: Checks, room: Buffer) -> str:
    """Write rounded numbers; return what is wrong with them or with the inputs, or an empty string."""
    result = Checks()
    result.add(f"the result does not fit {task.spec.dtype.name}", value, *_range(task.spec.dtype))
    lane.save(value, task.spec.dtype, room)
    return checks.fault() or result.fault()


def _extremes(values: Array) -> tuple[Array, Array]:
    """Return the smallest and the largest number; NaN if one is NaN."""
    import numpy as np

    if isinstance(values, np.ndarray):
        return values.min(), values.max()
    smallest, largest_number = values.aminmax()  # reads the values once
    return smallest, largest_number


def _on_host(numbers: Sequence[Array]) -> list[float]:
    """Return the numbers of arrays of one number and one type; this is the only wait for the device."""
    return array_namespace(numbers[0]).stack(list(numbers)).tolist() if numbers else []


def _range(dtype: Dtype) -> tuple[float, float]:
    """Return the smallest and the largest value of an element type."""
    if dtype.kind == "bool":
        return 0, 1
    if dtype.kind == "uint":
        return 0, min((1 << dtype.bits) - 1, (1 << 63) - 1)
    if dtype.kind == "int":
        return -(1 << (dtype.bits - 1)), (1 << (dtype.bits - 1)) - 1
    return -largest(dtype), largest(dtype)


def equals(branch: Array, base: Array | None, trim: Trim) -> int:
    """Return the number of elements of a branch's task vector that equal its threshold."""
    xp = array_namespace(branch)
    vector = astype(branch - base if base is not None else branch, xp.float32, copy=False)
    return int(((vector.view(xp.int32) & 0x7FFFFFFF) == trim.bits).sum())
