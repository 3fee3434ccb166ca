"""Merge one tensor: its pieces, in any thread, and the result."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from git_theta_ext.coding.kernels import uncleared
from git_theta_ext.errors import MergeError
from git_theta_ext.interfaces.merges import ALL_EQUALS, Trim
from git_theta_ext.merging.execution.fused import merge_by_kernel
from git_theta_ext.merging.execution.pieces import (
    Checks,
    MergedPiece,
    PieceInputs,
    Values,
    copy_piece,
    equals,
    loaded,
    merge_piece,
    merging_bytes,
)
from git_theta_ext.merging.execution.tasks import ROW_ELEMENTS
from git_theta_ext.records import dataclass, field
from git_theta_ext.store.ordered_hashing import GroupHasher
from git_theta_ext.store.read_ahead import largest_piece

if TYPE_CHECKING:
    from collections.abc import Sequence

    from git_theta_ext.merging.devices.device import Device, Lane
    from git_theta_ext.merging.execution.tasks import Task
    from git_theta_ext.model.manifest import Parameter
    from git_theta_ext.model.tensor import Digest


@dataclass(frozen=True)
class MergedTensor:
    """The result of a task.

    Attributes:
        task: The task.
        data: Little-endian bytes of the merged tensor; None if it could not be merged, or is stored already.
        reason: Why it could not be merged.
        votes: Sum of the elected signs.
        ties: Number of elements that the majority decided.
        majority: The sign that decided them.
        moved: What happened to a device, so that it was merged on the CPU; see ``failure_of``.
        stored: The result, if it is in the store already.
        resumed: Whether an earlier run stored it.
        identity: Its key in the journal.
        digest: The digest of ``data``, if it was computed while these were merged.
    """

    task: Task
    data: bytearray | None
    reason: str = ""
    votes: int = 0
    ties: int = 0
    majority: int = 1
    moved: str = ""
    stored: Parameter | None = None
    resumed: bool = False
    identity: str = ""
    digest: Digest | None = None


@dataclass
class SignElection:
    """The election of signs in one scope, whose state its pieces share.

    Attributes:
        trims: The threshold of each side of the merge; empty if the methods do not trim.
        majority: The sign that decides elements without a majority of their own.
    """

    trims: list[Trim] = field(default_factory=list)
    majority: int = 1

    @property
    def ordered(self) -> bool:
        """Whether the order of pieces matters: a piece keeps fewer elements if the pieces before it kept many."""
        return any(trim.equal < ALL_EQUALS for trim in self.trims)

    def trims_of(self, task: Task) -> tuple[Trim, ...]:
        """Return the thresholds of a task's branches."""
        return tuple(self.trims[number] for number in task.changed_by) if self.trims else ()

    def use_up(self, task: Task, counts: Sequence[int]) -> None:
        """Count elements that equal a branch's threshold and were kept."""
        for number, count in zip(task.changed_by, counts, strict=True):
            trim = self.trims[number]
            if trim.equal < ALL_EQUALS:
                self.trims[number] = Trim(trim.bits, max(0, trim.equal - count))


def block_elements(task: Task, elements: int, block: int) -> int:
    """Return how many elements of a piece a method gets at a time.

    Args:
        task: The tensor.
        elements: Number of elements in the piece.
        block: The number that the device prefers.
    """
    return elements if task.in_order or not task.method.contract.arrays else min(elements, block)


def piece_bytes(task: Task, elements: int) -> int:
    """Return the bytes that merging a piece of a tensor that streams takes.

    Args:
        task: The tensor.
        elements: Number of elements that are merged at a time.
    """
    numbers = elements * task.numbers
    raw = elements * max(member.spec.dtype.bits for member in task.members) // 8
    return merging_bytes(task, (numbers,), numbers * len(task.members), raw)


def rows_bytes(task: Task) -> int:
    """Return the bytes that merging as many rows at a time takes as a tensor that does not stream is merged by."""
    shape = task.common.shape
    if shape:
        shape = (min(task.rows, shape[0]), *shape[1:])
    elements = math.prod(shape)
    inputs = [(elements if task.has_rows(member) else member.spec.elements, member.spec) for member in task.members]
    raw = max(count * spec.dtype.bits // 8 for count, spec in inputs)
    numbers = (task.numbers,) if task.numbers > 1 else ()
    return merging_bytes(task, (*shape, *numbers), sum(count for count, _ in inputs) * task.numbers, raw)


def gathered_bytes(task: Task) -> int:
    """Return the bytes of a tensor that does not stream: all its inputs, and its result."""
    return sum(member.spec.nbytes for member in task.members) + task.spec.nbytes


class TensorMerge:
    """The merge of one tensor, in progress.

    Args:
        task: The task.
        device: Where to compute.
        election: The election of its scope.
    """

    def __init__(self, task: Task, device: Device, election: SignElection) -> None:
        self._task = task
        self._device = device
        self._election = election
        self._majority = election.majority
        self._data = uncleared(task.spec.nbytes)
        self._whole: list[bytearray] = []
        self._sum = MergedPiece()
        self._largest, self._pieces = largest_piece(task.spec, device.span)
        self._hasher = GroupHasher([task.spec]) if task.streams and self._pieces > 1 else None

    def merge(self, start: int, chunks: Sequence[memoryview]) -> MergedPiece:
        """Merge a piece of a tensor that streams; in any thread, if the election is not ordered.

        Args:
            start: Index of its first element.
            chunks: The bytes of the piece in each member.
        """
        task = self._task
        count = chunks[0].nbytes * 8 // task.members[0].spec.dtype.bits
        block = block_elements(task, count, self._device.block)
        merged = self._fused(start, count, chunks)
        if merged is None:
            merged = MergedPiece()
            for at in range(0, count, max(block, 1)):
                sizes = [member.spec.dtype.bits // 8 for member in task.members]
                parts = [chunk[at * size : (at + block) * size] for chunk, size in zip(chunks, sizes, strict=True)]
                merged += self._merged(start + at, min(block, count - at), parts, None)
        if self._hasher is not None:  # while the result is in the CPU's cache
            self._hasher.add(start // self._largest, [self._room(start, count)])
        return merged

    def keep(self, part: MergedPiece) -> None:
        """Add the result of the next piece."""
        self._sum += part

    def gather(self, member: int, start: int, chunk: memoryview) -> None:
        """Add the next chunk of a member of a tensor that does not stream; it starts at the element ``start``."""
        self._whole = self._whole or [bytearray(tensor.spec.nbytes) for tensor in self._task.members]
        offset = start * self._task.members[member].spec.dtype.bits // 8
        self._whole[member][offset : offset + chunk.nbytes] = chunk

    def done(self) -> MergedTensor:
        """Return the merged tensor.

        Raises:
            MergeError: An input is not finite, the result does not fit its type, or the method rejects the values.
        """
        if not self._task.streams:
            self._merge_rows()
            self._append_rows()
        if self._sum.fault:
            raise MergeError(self._sum.fault)
        digest = None
        if self._hasher is not None:
            self._hasher.hash_up_to(self._pieces - 1)
            (digest,) = self._hasher.digests()
        part = self._sum
        return MergedTensor(self._task, self._data, "", part.votes, part.ties, self._majority, digest=digest)

    def _merged(
        self, start: int, count: int, chunks: Sequence[memoryview], shapes: Sequence[Sequence[int]] | None
    ) -> MergedPiece:
        with self._device.lane() as lane:
            return self._merged_in(lane, start, self._room(start, count), chunks, shapes)

    def _merged_in(
        self,
        lane: Lane,
        start: int,
        room: memoryview,
        chunks: Sequence[memoryview],
        shapes: Sequence[Sequence[int]] | None,
    ) -> MergedPiece:
        """Merge a piece in a lane; the lane's tensors are gone when this returns."""
        task, trims = self._task, self._election.trims_of(self._task)
        values = loaded(task, lane, chunks, shapes)
        if shapes is not None:
            if fault := values.checks.fault():  # decompositions fail on NaN
                raise MergeError(fault)
            values = Values(values.tensors, Checks())
        part = merge_piece(task, lane, values, PieceInputs(trims, self._majority), start, room)
        if self._election.ordered:
            base, *branches = values.tensors[: 1 + len(task.branches)]
            self._election.use_up(task, [equals(b, base, trim) for b, trim in zip(branches, trims, strict=True)])
        return part

    def _fused(self, start: int, count: int, chunks: Sequence[memoryview]) -> MergedPiece | None:
        """Merge a piece by the compiled kernel; None if that is not possible."""
        if not self._device.fused or self._election.ordered:
            return None
        inputs = PieceInputs(self._election.trims_of(self._task), self._majority)
        (merged,) = merge_by_kernel([self._task], [chunks], inputs, start, [self._room(start, count)])
        return merged

    def _room(self, start: int, count: int) -> memoryview:
        """Return the memory of some elements of the result."""
        bits = self._task.spec.dtype.bits
        return memoryview(self._data)[start * bits // 8 : (start + count) * bits // 8]

    def _merge_rows(self) -> None:
        """Merge the gathered tensors, some rows at a time if the method allows it."""
        task, shape = self._task, self._task.common.shape
        whole = self._whole or [
            bytearray(member.spec.nbytes) for member in task.members
        ]  # tensors without elements have no chunk
        numbers = () if task.numbers == 1 else (task.numbers,)
        rows, width = shape[0] if shape else 1, math.prod(shape[1:])
        for first in range(0, max(rows, 1), task.rows):
            count = min(task.rows, rows - first)
            chunks, shapes = [], []
            for room, member in zip(whole, task.members, strict=True):
                cut, size = task.has_rows(member), width * member.spec.dtype.bits // 8
                chunks.append(memoryview(room)[first * size : (first + count) * size] if cut else memoryview(room))
                shapes.append(((count, *shape[1:]) if cut and shape else member.spec.shape) + numbers)
            self.keep(self._merged(first * width, count * width, chunks, shapes))

    def _append_rows(self) -> None:
        """Copy the rows that only one side has."""
        task = self._task
        if task.grower is None:
            return
        member = task.grower + (task.base is not None)
        bits = task.members[member].spec.dtype.bits
        for start in range(task.common.elements, task.spec.elements, ROW_ELEMENTS):
            count = min(ROW_ELEMENTS, task.spec.elements - start)
            chunk = memoryview(self._whole[member])[start * bits // 8 : (start + count) * bits // 8]
            with self._device.lane() as lane:
                self.keep(copy_piece(task, lane, member, chunk, self._room(start, count)))
