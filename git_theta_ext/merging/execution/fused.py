"""Merge pieces in one pass, from stored elements to those of the results, by a compiled kernel."""

from __future__ import annotations

from typing import TYPE_CHECKING

from git_theta_ext.coding.merge_kernels import knows, merge_elements
from git_theta_ext.merging.execution.held import in_memory
from git_theta_ext.merging.execution.pieces import MergedPiece, PieceInputs

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from typing_extensions import Buffer

    from git_theta_ext.merging.execution.tasks import Task
    from git_theta_ext.merging.execution.work import SignElection
    from git_theta_ext.store.tensor_store import TensorStore


def has_kernel(task: Task) -> bool:
    """Return whether a kernel merges pieces of a task whose values are finite."""
    method = task.method.contract
    kinds = [member.spec.dtype for member in task.members]
    fused = method.fused is not None and method.granularity == "element" and not task.sidecars
    return fused and any(task.weights) and knows([*kinds, task.spec.dtype])


def merge_by_kernel(
    tasks: Sequence[Task],
    chunks: Sequence[Sequence[Buffer]],
    inputs: PieceInputs,
    start: int,
    rooms: Sequence[Buffer],
) -> list[MergedPiece | None]:
    """Merge pieces of tensors that stream.

    Args:
        tasks: The tensors, which differ only in their values and sizes.
        chunks: For each tensor, the bytes of the piece in each of ``Task.members``.
        inputs: Thresholds, without a limit of how many equal ones are kept, and majority.
        start: Index of the first element of the pieces.
        rooms: For each tensor, memory for the bytes of the result.

    Returns:
        For each tensor None if there is no kernel for it, or it has values with which something is wrong.
    """
    task = tasks[0]
    fused = task.method.contract.fused
    if fused is None or not has_kernel(task):
        return [None] * len(tasks)
    steps = fused(task.choice.options)
    elections = merge_elements(
        chunks,
        [member.spec.dtype for member in task.members],
        rooms,
        task.spec.dtype,
        combine=steps.combine,
        weights=task.weights,
        trims=[trim.bits for trim in inputs.trims],
        keys=[one.keys for one in tasks],
        start=start,
        kept=steps.kept,
        scale=steps.scale,
        majority=inputs.majority,
    )
    counted = bool(inputs.trims)
    return [None if votes is None else MergedPiece("", *votes) if counted else MergedPiece() for votes in elections]


def merged_in_memory(
    store: TensorStore, tasks: Sequence[Task], election: SignElection
) -> Iterator[tuple[Task, bytearray, MergedPiece]]:
    """Merge small tensors that a store has in memory, with one call of the kernel for those that are merged alike.

    A call for each tensor takes longer than the merge of a tensor of a few kilobytes.

    Args:
        store: Holds the values.
        tasks: The tensors to merge.
        election: The thresholds, without a limit of how many equal ones are kept, and the majority.

    Yields:
        The tensors, but those that the kernel does not merge, each with its bytes and its votes and ties.
    """
    streamed = [task for task in tasks if task.streams]
    values = in_memory(store, [task.members for task in streamed])
    alike: dict[tuple[object, ...], list[int]] = {}
    for index in range(len(values)):
        task = streamed[index]
        names = tuple([member.spec.dtype.name for member in task.members])
        alike.setdefault((id(task.choice), task.changed_by, task.spec.dtype.name, names), []).append(index)
    for indices in alike.values():
        some = [streamed[index] for index in indices]
        inputs = PieceInputs(election.trims_of(some[0]), election.majority)
        rooms = [bytearray(task.spec.nbytes) for task in some]
        merged = merge_by_kernel(some, [values[index] for index in indices], inputs, 0, rooms)
        for task, room, part in zip(some, rooms, merged, strict=True):
            if part is not None:
                yield task, room, part
