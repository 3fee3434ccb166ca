"""Merge a piece in one pass, from stored elements to those of the result, by a compiled kernel."""

from __future__ import annotations

from typing import TYPE_CHECKING

from git_theta_ext.coding.merge_kernels import knows, merge_elements
from git_theta_ext.merging.execution.pieces import MergedPiece

if TYPE_CHECKING:
    from collections.abc import Sequence

    from git_theta_ext.merging.execution.pieces import PieceInputs
    from git_theta_ext.merging.execution.tasks import Task


def has_kernel(task: Task) -> bool:
    """Return whether a kernel merges pieces of a task whose values are finite."""
    method = task.method.contract
    kinds = [member.spec.dtype for member in task.members]
    fused = method.fused is not None and method.granularity == "element" and not task.sidecars
    return fused and any(task.weights) and knows([*kinds, task.spec.dtype])


def merge_by_kernel(
    task: Task, chunks: Sequence[memoryview], inputs: PieceInputs, start: int, room: memoryview
) -> MergedPiece | None:
    """Merge a piece of a tensor that streams.

    Args:
        task: The task that it is a piece of.
        chunks: Bytes of the piece in each of ``Task.members``.
        inputs: Thresholds, without a limit of how many equal ones are kept, and majority.
        start: Index of the piece's first element.
        room: Memory for the bytes of the result.

    Returns:
        None if there is no kernel for it, or it has values with which something is wrong.
    """
    fused = task.method.contract.fused
    if fused is None or not has_kernel(task):
        return None
    steps = fused(task.choice.options)
    election = merge_elements(
        chunks,
        [member.spec.dtype for member in task.members],
        room,
        task.spec.dtype,
        combine=steps.combine,
        weights=task.weights,
        trims=[trim.bits for trim in inputs.trims],
        keys=task.keys,
        start=start,
        kept=steps.kept,
        scale=steps.scale,
        majority=inputs.majority,
    )
    if election is None:
        return None
    return MergedPiece("", *election) if inputs.trims else MergedPiece()
