"""Merge one piece: call the method, round and write what it returns, check that all numbers are what they may be."""

from __future__ import annotations

import math
import sys
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from git_theta_ext.errors import PluginError
from git_theta_ext.interfaces import Elected, Piece
from git_theta_ext.merging.devices.numbers import number_bytes
from git_theta_ext.model.floats import largest

if TYPE_CHECKING:
    from collections.abc import Sequence

    import torch
    from typing_extensions import Buffer

    from git_theta_ext.interfaces import Trim
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
        fault: Why it may not be used, empty where it may.
        votes: As in ``Elected``.
        ties: As in ``Elected``.
    """

    fault: str = ""
    votes: int = 0
    ties: int = 0


@dataclass
class Checks:
    """Bounds for the numbers of some tensors, looked at when the device is done, all in one go.

    Attributes:
        words: What to say of a tensor that is out of bounds, and the bounds.
        extremes: The least and the largest number of each tensor, NaN if one is NaN.
    """

    words: list[tuple[str, float, float]] = field(default_factory=list)
    extremes: list[torch.Tensor] = field(default_factory=list)

    def add(self, words: str, values: torch.Tensor, least: float, most: float) -> None:
        """Check that all numbers of a tensor lie between two others."""
        if values.numel():
            self.words.append((words, least, most))
            self.extremes += values.aminmax()

    def fault(self) -> str:
        """Wait for the device, and return the words for the first tensor that is out of bounds, if one is."""
        found = _on_host(self.extremes)
        for (words, least, most), low, high in zip(self.words, found[::2], found[1::2], strict=True):
            if not (least <= low and high <= most):
                return words
        return ""


@dataclass(frozen=True)
class Values:
    """The inputs of a piece, in the order of ``Task.members``, and whether they are finite."""

    tensors: list[torch.Tensor]
    checks: Checks


def loaded(task: Task, lane: Lane, chunks: Sequence[Buffer], shapes: Sequence[Sequence[int]] | None = None) -> Values:
    """Move the values of a piece to the device.

    Args:
        task: What it is a piece of.
        lane: Where to.
        chunks: Bytes of each of ``Task.members``.
        shapes: Of these; one-dimensional if left out.
    """
    tensors, checks = [], Checks()
    for number, (member, chunk) in enumerate(zip(task.members, chunks, strict=True)):
        value = _loaded(task, lane, member, chunk)
        tensors.append(value if shapes is None else value.reshape(shapes[number]))
        if member.spec.dtype.kind in ("float", "complex"):
            checks.add(f"{task.whose[number]} has NaN or infinite values", value, *_FINITE)
        elif member.spec.dtype.name == "U64":  # computed with as int64
            checks.add(f"{task.whose[number]} has integers of more than 63 bits", value, 0, (1 << 63) - 1)
    return Values(tensors, checks)


def _loaded(task: Task, lane: Lane, member: Parameter, chunk: Buffer) -> torch.Tensor:
    return lane.load(chunk, member.spec.dtype, wide=task.wide)


@dataclass(frozen=True)
class PieceInputs:
    """What a piece's result depends on besides its values.

    Attributes:
        trims: A threshold for each branch.
        majority: The sign that elections fall back on.
    """

    trims: tuple[Trim, ...]
    majority: int


def merge_piece(  # noqa: PLR0913, PLR0917 - all that a piece is
    task: Task, lane: Lane, values: Values, inputs: PieceInputs, start: int, room: Buffer
) -> MergedPiece:
    """Merge one piece.

    Args:
        task: What it is a piece of.
        lane: Where its values are.
        values: From ``loaded``.
        inputs: Thresholds and majority.
        start: Number of the piece's first element.
        room: Where the result's bytes go.

    Raises:
        MergeError: The method refuses these values.
        PluginError: The method does not keep its contract.
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
        sidecars={kind: tuple(rest.pop(0) for _ in found) for kind, found in task.sidecars.items()},
    )
    found = task.method(piece)
    value = found.value if isinstance(found, Elected) else found
    if value.shape != branches[0].shape or value.dtype != branches[0].dtype:
        raise PluginError(f"method {task.method.name!r} returned something else than a tensor like its branches")
    fault = _written(task, lane, value, values.checks, room)
    if not isinstance(found, Elected):
        return MergedPiece(fault)
    votes, ties = _on_host([found.votes, found.ties])
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
    """Take over elements that only one of ``Task.members`` has, in the result's element type.

    Args:
        task: What they are a part of.
        lane: Where to convert them.
        member: Number of the one that has them.
        chunk: Their bytes.
        room: Where the result's bytes go.
    """
    checks = Checks()
    value = _loaded(task, lane, task.members[member], chunk)
    checks.add(f"{task.whose[member]} has NaN or infinite values", value, *_FINITE)
    return MergedPiece(_written(task, lane, value, checks, room))


def _written(task: Task, lane: Lane, value: torch.Tensor, checks: Checks, room: Buffer) -> str:
    """Round numbers and write them; return what is wrong with them or what they came from."""
    result = Checks()
    result.add(f"the result does not fit {task.spec.dtype.name}", value, *_range(task.spec.dtype))
    lane.save(value, task.spec.dtype, room)
    return checks.fault() or result.fault()


def _on_host(numbers: Sequence[torch.Tensor]) -> list[float]:
    """Return tensors of one number each, all of one type, as numbers; the only wait for the device."""
    import torch

    return torch.stack(list(numbers)).tolist() if numbers else []


def _range(dtype: Dtype) -> tuple[float, float]:
    """Return the least and the largest value of an element type."""
    if dtype.kind == "bool":
        return 0, 1
    if dtype.kind == "uint":
        return 0, min((1 << dtype.bits) - 1, (1 << 63) - 1)
    if dtype.kind == "int":
        return -(1 << (dtype.bits - 1)), (1 << (dtype.bits - 1)) - 1
    return -largest(dtype), largest(dtype)


def equals(branch: torch.Tensor, base: torch.Tensor | None, trim: Trim) -> int:
    """Return how many elements of a branch's task vector equal its threshold."""
    import torch

    vector = (branch - base if base is not None else branch).to(torch.float32)
    return int(((vector.view(torch.int32) & 0x7FFFFFFF) == trim.bits).sum())
