"""Merge one piece: check that its values are finite, call the method, check that the result fits, and round it."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from git_theta_ext.errors import MergeError, PluginError
from git_theta_ext.interfaces import Elected, Piece
from git_theta_ext.model.numbers import largest

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    import torch
    from typing_extensions import Buffer

    from git_theta_ext.interfaces import Trim
    from git_theta_ext.merging.device import Device
    from git_theta_ext.merging.tasks import Task
    from git_theta_ext.model.dtypes import Dtype


@dataclass(frozen=True)
class Part:
    """A merged piece.

    Attributes:
        data: Waits for its bytes.
        checks: What is wrong where one of these is not true.
        votes: As in ``Elected``.
        ties: As in ``Elected``.
    """

    data: Callable[[], memoryview]
    checks: list[tuple[str, torch.Tensor]]
    votes: torch.Tensor | None = None
    ties: torch.Tensor | None = None


@dataclass(frozen=True)
class Values:
    """The inputs of a piece, in the order of ``Task.members``, and whether they are finite."""

    tensors: list[torch.Tensor]
    checks: list[tuple[str, torch.Tensor]]


def loaded(task: Task, device: Device, chunks: Sequence[Buffer]) -> Values:
    """Move the values of a piece to the device, one chunk for each of ``Task.members``."""
    names = [*(["base"] if task.base is not None else []), *task.sides]
    names += [f"the {kind} statistics" for kind, found in task.sidecars.items() for _ in found]
    tensors, checks = [], []
    for what, member, chunk in zip(names, task.members, chunks, strict=True):
        value = device.load(chunk, member.spec.dtype, wide=task.wide)
        tensors.append(value)
        if member.spec.dtype.kind in ("float", "complex") and value.numel():
            low, high = value.aminmax()
            checks.append((f"{what} has NaN or infinite values", low.isfinite() & high.isfinite()))
    return Values(tensors, checks)


@dataclass(frozen=True)
class Terms:
    """What a piece's result depends on beside its values.

    Attributes:
        trims: A threshold for each branch.
        majority: The sign that elections fall back on.
    """

    trims: tuple[Trim, ...]
    majority: int


def merge_piece(task: Task, device: Device, values: Values, terms: Terms, start: int) -> Part:
    """Merge one piece.

    Args:
        task: What it is a piece of.
        device: Where its values are.
        values: From ``loaded``.
        terms: Threshold and majority.
        start: Number of the piece's first element.

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
        trims=terms.trims,
        majority=terms.majority,
        keys=task.keys,
        start=start * task.numbers,
        sidecars={kind: tuple(rest.pop(0) for _ in found) for kind, found in task.sidecars.items()},
    )
    found = task.method(piece)
    value = found.value if isinstance(found, Elected) else found
    if value.shape != branches[0].shape or value.dtype != branches[0].dtype:
        raise PluginError(f"method {task.method.name!r} returned something else than a tensor like its branches")
    part = rounded(task, device, value, values.checks)
    return replace(part, votes=found.votes, ties=found.ties) if isinstance(found, Elected) else part


def rounded(task: Task, device: Device, value: torch.Tensor, checks: list[tuple[str, torch.Tensor]]) -> Part:
    """Round numbers to the result's element type, and check that they fit; beside the checks of what they came from."""
    dtype = task.spec.dtype
    if value.numel():
        least, most = _range(dtype)
        low, high = value.aminmax()  # NaN is neither
        checks = [*checks, (f"the result does not fit {dtype.name}", (low >= least) & (high <= most))]
    return Part(device.save(value, dtype), checks)


def check(checks: Sequence[tuple[str, torch.Tensor]]) -> None:
    """Raise MergeError with the words of the first check that is not true."""
    for what, good in checks:
        if not bool(good):
            raise MergeError(what)


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
