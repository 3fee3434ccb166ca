"""Compute, without a merge method and without torch, the parameters to which a change is applied or that are cast."""

from __future__ import annotations

import threading
from dataclasses import dataclass
from typing import TYPE_CHECKING

from git_theta_ext.errors import CorruptError, MergeError, MissingError
from git_theta_ext.merging.sums import apply_change, cast

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

    from git_theta_ext.merging.execution.engine import Computed
    from git_theta_ext.merging.planning.decision import Decision
    from git_theta_ext.model.manifest import Parameter
    from git_theta_ext.model.tensor import TensorSpec
    from git_theta_ext.store.batches import Batches
    from git_theta_ext.store.read_ahead import Piece
    from git_theta_ext.store.tensor_store import TensorStore


@dataclass(frozen=True)
class _Job:
    """One result.

    Attributes:
        names: The parameters that it is the value of: several if they are tied.
        members: What is read: one value that is cast; or ours, base and theirs.
        spec: Of the result.
    """

    names: tuple[str, ...]
    members: tuple[Parameter, ...]
    spec: TensorSpec

    def work(self, start: int, chunks: Sequence[memoryview], room: memoryview) -> str:
        """Compute the elements from ``start`` on; return why they may not be used."""
        kinds = [member.spec.dtype for member in self.members]
        count = chunks[0].nbytes * 8 // kinds[0].bits
        into = self.spec.dtype
        part = room[start * into.bits // 8 : (start + count) * into.bits // 8]
        if len(chunks) == 1:
            return cast(chunks[0], kinds[0], into, part)
        return apply_change(chunks, kinds, into, part)


def compute(
    decisions: Iterable[Decision],
    store: TensorStore,
    results: Batches,
    found: Computed,
    advance: Callable[[int], None],
) -> None:
    """Compute what a plan applies and casts; what cannot be computed is a failure with its reason.

    Args:
        decisions: Of the plan; those that need no arithmetic of this kind are passed over.
        store: Holds the values.
        results: Takes the results; they are durable when it is flushed.
        found: Takes their names, and the failures.
        advance: Told the number of bytes of each result.

    Raises:
        StoreError: The store cannot be read or written.
    """
    left = []
    for job in _jobs(decisions):
        missing = store.touch_and_find_missing({member.digest for member in job.members})
        found.failed.update(
            dict.fromkeys(job.names if missing else (), f"{min(missing, default='')} is not in the store")
        )
        left += [] if missing else [job]
    while left:
        fault = ""
        try:
            for data in _computed(store, tuple(left)):
                job = left.pop(0)
                found.values.update(dict.fromkeys(job.names, results.add(job.spec, data)))
                advance(job.spec.nbytes)
        except (MergeError, MissingError, CorruptError) as error:
            fault = error.message
        if fault:
            failed = left.pop(0)
            found.failed.update(dict.fromkeys(failed.names, fault))
            advance(failed.spec.nbytes)


def _jobs(decisions: Iterable[Decision]) -> list[_Job]:
    found: dict[tuple[object, ...], _Job] = {}
    for decision in decisions:
        if decision.action not in {"apply", "cast"} or decision.value is None:
            continue
        members, spec = tuple(decision.inputs), decision.value.spec
        before = found.get((members, spec))
        names = (*(() if before is None else before.names), decision.name)
        found[members, spec] = _Job(names, members, spec)
    return list(found.values())


def _computed(store: TensorStore, jobs: Sequence[_Job]) -> Iterator[bytearray]:
    """Yield the bytes of each result, in order."""
    lock = threading.Lock()
    rooms: dict[int, bytearray] = {}

    def room(item: int) -> bytearray:
        with lock:
            if item not in rooms:
                rooms[item] = bytearray(jobs[item].spec.nbytes)
            return rooms[item]

    def work(piece: Piece) -> str:
        return jobs[piece.group].work(piece.element, piece.chunks, memoryview(room(piece.group)))

    groups = [[(member.digest, member.spec) for member in job.members] for job in jobs]
    faults: list[str] = []
    for piece in store.read_aligned(groups, work):
        if piece.chunks:
            faults += [piece.result] if piece.result else []
            continue
        if faults:
            raise MergeError(faults[0])
        data = room(piece.group)
        del rooms[piece.group]
        yield data
