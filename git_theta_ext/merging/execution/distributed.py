"""Merge tensors, and count magnitudes, in jobs that can run on other machines.

A job gets the locations of what it reads, and delivers packs (``git_theta_ext.store.exchange``). It opens no index and
asks no git: the plan is made before, and the process that merges takes the results and notes them in the journal.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from git_theta_ext.cluster.jobs import Job, divided
from git_theta_ext.errors import CorruptError, MissingError
from git_theta_ext.merging.devices.cpu import Cpu, one_thread
from git_theta_ext.merging.execution.memory import counting_job_bytes, merging_job_bytes
from git_theta_ext.merging.execution.stream import run
from git_theta_ext.merging.execution.work import MergedTensor, SignElection
from git_theta_ext.merging.thresholds.search import count_changes
from git_theta_ext.model.manifest import Parameter
from git_theta_ext.records import dataclass
from git_theta_ext.store.batches import Batches
from git_theta_ext.util.threads import LARGEST_KEPT, keep_freed_memory, no_progress

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    import numpy as np
    from numpy.typing import NDArray

    from git_theta_ext.cluster.jobs import Workers
    from git_theta_ext.merging.execution.journal import Journal
    from git_theta_ext.merging.execution.tasks import Task
    from git_theta_ext.merging.planning.counted import Changed
    from git_theta_ext.merging.thresholds.search import Bins, Counted
    from git_theta_ext.model.tensor import Digest
    from git_theta_ext.store.exchange import Exchange, JobInputs


@dataclass(frozen=True)
class TensorFacts:
    """The result of merging one tensor, as in ``MergedTensor``; no digest if it could not be merged."""

    digest: Digest | None
    reason: str = ""
    votes: int = 0
    ties: int = 0


@dataclass(frozen=True)
class MergedPart:
    """The result of a job that merges tensors.

    Attributes:
        facts: The result of each tensor.
        packs: Names of the packs in the work area that have the merged tensors.
        doubted: Digests of inputs that turned out to be damaged.
    """

    facts: tuple[TensorFacts, ...]
    packs: tuple[str, ...] = ()
    doubted: frozenset[Digest] = frozenset()


class DistributedMerge:
    """Merges tensors, and counts magnitudes, in jobs.

    Args:
        workers: Run the jobs.
        exchange: Gives the jobs their inputs, and takes the results.
        journal: Gets the results, after what an interrupted run has finished.
    """

    def __init__(self, workers: Workers, exchange: Exchange, journal: Journal) -> None:
        self._workers = workers
        self._exchange = exchange
        self._journal = journal
        for delivery in exchange.left():
            journal.restore((digest, tuple(note)) for digest, note in delivery.facts)

    def provide(self, digests: Iterable[Digest]) -> set[Digest]:
        """Make jobs able to read some tensors, and return the digests of those that they cannot read."""
        return self._exchange.provide(digests)

    def memory(self, tasks: Sequence[Task]) -> int:
        """Return the most bytes of memory that a job takes that merges some of these tensors."""
        return max((merging_job_bytes(part, self._workers.threads) for part in _parts(tasks)), default=0)

    def merge(
        self, tasks: Sequence[Task], identities: Mapping[str, str], election: SignElection
    ) -> Iterator[MergedTensor]:
        """Merge tensors whose pieces do not depend on each other; the results are durable.

        Raises:
            PluginError: A method violates its contract.
            StoreError: The store cannot be read or written.
            ClusterError: The workers cannot run a job.
        """
        parts = _parts(tasks)
        jobs = (self._merging(part, identities, election) for part in parts)
        for part, merged in zip(parts, self._workers.gather(jobs), strict=True):
            self._exchange.add(merged.packs)
            facts = list(zip(part, merged.facts, strict=True))
            self._journal.record(
                [(f.digest, (identities[t.name], f.votes, f.ties)) for t, f in facts if f.digest is not None]
            )
            if merged.doubted:
                self._exchange.doubt(merged.doubted)
            for task, fact in facts:
                value = None if fact.digest is None else Parameter(task.spec, fact.digest)
                yield MergedTensor(task, None, fact.reason, fact.votes, fact.ties, election.majority, stored=value)

    def count(self, groups: Sequence[Changed], bins: Bins, *, second_pass: bool) -> Iterator[Counted]:
        """Count the magnitudes of changes; see ``search``.

        Raises:
            MissingError: A value is not in the store.
            CorruptError: A value is damaged.
            ClusterError: The workers cannot run a job.
        """
        sizes = [base.spec.nbytes + sum(value.spec.nbytes for value in values.values()) for base, values in groups]
        jobs = (self._counting(part, tuple(bins), second_pass=second_pass) for part in divided(groups, sizes))
        for counted in self._workers.gather(jobs):
            yield from counted

    def _counting(self, groups: Sequence[Changed], bins: Bins, *, second_pass: bool) -> Job[list[Counted]]:
        threads = self._workers.threads
        inputs = self._exchange.inputs(value.digest for base, values in groups for value in (base, *values.values()))
        counting = partial(_count, inputs, groups, bins, threads, second_pass=second_pass)
        return Job(counting, counting_job_bytes(groups, threads, max(map(len, bins), default=1)))

    def _merging(self, tasks: Sequence[Task], identities: Mapping[str, str], election: SignElection) -> Job[MergedPart]:
        memory = merging_job_bytes(tasks, self._workers.threads)
        try:
            inputs = self._exchange.inputs(member.digest for task in tasks for member in task.members)
        except (MissingError, CorruptError) as error:  # since the plan was checked
            return Job(partial(MergedPart, (TensorFacts(None, error.message),) * len(tasks)), 0)
        own = [identities[task.name] for task in tasks]
        return Job(partial(_merge, inputs, tasks, own, election, self._workers.threads), memory)


def _parts(tasks: Sequence[Task]) -> list[list[Task]]:
    return divided(tasks, [sum(member.spec.nbytes for member in task.members) for task in tasks])


def _merge(
    inputs: JobInputs, tasks: Sequence[Task], identities: Sequence[str], election: SignElection, threads: int
) -> MergedPart:
    """Merge tensors, and deliver packs of them."""
    keep_freed_memory(LARGEST_KEPT)
    facts = []
    own = SignElection(list(election.trims), election.majority)
    with inputs.opened(threads) as store:
        batches = Batches(store)
        with one_thread():
            for merged in run(store, Cpu(), tasks, own, no_progress):
                digest = None
                if merged.data is not None:
                    digest = batches.add(merged.task.spec, merged.data, digest=merged.digest).digest
                facts.append(TensorFacts(digest, merged.reason, merged.votes, merged.ties))
            batches.flush()
        notes = [
            (f.digest, (i, f.votes, f.ties)) for f, i in zip(facts, identities, strict=True) if f.digest is not None
        ]
        inputs.deliver(store, notes)
        return MergedPart(tuple(facts), tuple(store.packs), frozenset(store.doubted))


def _count(
    inputs: JobInputs, groups: Sequence[Changed], bins: Bins, threads: int, *, second_pass: bool
) -> list[Counted]:
    """Return the sums of the counts of some changes, by the sides that changed them."""
    sums: dict[tuple[int, ...], list[NDArray[np.int64]]] = {}
    with inputs.opened(threads) as store:
        for numbers, pieces in count_changes(store, Cpu(), groups, bins=bins, threads=threads, second_pass=second_pass):
            before = sums.get(tuple(numbers))
            sums[tuple(numbers)] = pieces if before is None else [a + b for a, b in zip(before, pieces, strict=True)]
    return [(list(numbers), pieces) for numbers, pieces in sums.items()]
