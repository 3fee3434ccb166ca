"""Compute parameters to which a change is applied, or whose element type changes; needs no torch."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

from git_theta_ext.errors import CorruptError, MergeError, MissingError
from git_theta_ext.merging.sums import apply_change, cast
from git_theta_ext.records import dataclass

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

    from git_theta_ext.merging.outcome import Computed
    from git_theta_ext.merging.planning.decision import Decision
    from git_theta_ext.model.manifest import Parameter
    from git_theta_ext.model.tensor import TensorSpec
    from git_theta_ext.store.batches import Batches
    from git_theta_ext.store.read_ahead import DecodedPiece
    from git_theta_ext.store.tensor_store import TensorStore


@dataclass(frozen=True)
class _Job:
    """A value to compute.

    Attributes:
        names: The parameters that have this value; several if they are tied.
        members: The inputs: one value that is cast, or ours, the base and theirs.
        spec: Element type and shape of the result.
    """

    names: tuple[str, ...]
    members: tuple[Parameter, ...]
    spec: TensorSpec

    def work(self, start: int, chunks: Sequence[memoryview], room: memoryview) -> str:
        """Compute the elements from ``start`` on; return the reason if they cannot be used, else nothing."""
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
    computed: Computed,
    advance: Callable[[int], None],
) -> None:
    """Compute the changes that a plan applies, and its casts.

    Args:
        decisions: The decisions of the plan; other kinds of decisions are skipped.
        store: Holds the values.
        results: Stores the results; they are durable after a flush.
        computed: Receives the results, and the reasons of those that failed.
        advance: Called with the size in bytes of each result.

    Raises:
        StoreError: The store cannot be read or written.
    """
    remaining = []
    for job in _jobs(decisions):
        missing = store.touch_and_find_missing({member.digest for member in job.members})
        computed.failed.update(
            dict.fromkeys(job.names if missing else (), f"{min(missing, default='')} is not in the store")
        )
        remaining += [] if missing else [job]
    while remaining:
        reason = ""
        try:
            for data in _computed(store, tuple(remaining)):
                job = remaining.pop(0)
                computed.values.update(dict.fromkeys(job.names, results.add(job.spec, data)))
                advance(job.spec.nbytes)
        except (MergeError, MissingError, CorruptError) as error:
            reason = error.message
        if reason:
            failed = remaining.pop(0)
            computed.failed.update(dict.fromkeys(failed.names, reason))
            advance(failed.spec.nbytes)


def _jobs(decisions: Iterable[Decision]) -> list[_Job]:
    computed: dict[tuple[object, ...], _Job] = {}
    for decision in decisions:
        if decision.action not in {"apply", "cast"} or decision.value is None:
            continue
        members, spec = tuple(decision.inputs), decision.value.spec
        same = computed.get((members, spec))
        names = (*(() if same is None else same.names), decision.name)
        computed[members, spec] = _Job(names, members, spec)
    return list(computed.values())


def _computed(store: TensorStore, jobs: Sequence[_Job]) -> Iterator[bytearray]:
    """Yield the bytes of each result, in order."""
    lock = threading.Lock()
    rooms: dict[int, bytearray] = {}

    def room(item: int) -> bytearray:
        with lock:
            if item not in rooms:
                rooms[item] = bytearray(jobs[item].spec.nbytes)
            return rooms[item]

    def work(piece: DecodedPiece) -> str:
        return jobs[piece.group].work(piece.element, piece.chunks, memoryview(room(piece.group)))

    groups = [[(member.digest, member.spec) for member in job.members] for job in jobs]
    reasons: list[str] = []
    for piece in store.read_aligned(groups, work):
        if piece.chunks:
            reasons += [piece.result] if piece.result else []
            continue
        if reasons:
            raise MergeError(reasons[0])
        data = room(piece.group)
        del rooms[piece.group]
        yield data
