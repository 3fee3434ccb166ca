"""Carry out the computations of a merge: thresholds, then all tensors, then those that a sign election changed."""

from __future__ import annotations

from functools import partial
from itertools import chain
from typing import TYPE_CHECKING

from git_theta_ext.errors import CorruptError, MissingError
from git_theta_ext.merging.devices.cpu import Cpu, one_thread
from git_theta_ext.merging.devices.device import Devices
from git_theta_ext.merging.devices.methods import have_matrices, require_torch
from git_theta_ext.merging.devices.one_core import one_core
from git_theta_ext.merging.execution.exact import compute as compute_exactly
from git_theta_ext.merging.execution.held import held
from git_theta_ext.merging.execution.journal import Journal
from git_theta_ext.merging.execution.parallel import interleaved
from git_theta_ext.merging.execution.scheduler import DeviceScheduler
from git_theta_ext.merging.execution.stream import run
from git_theta_ext.merging.execution.tasks import contracts_of, is_available, is_small_matrix, members_of, single_tasks
from git_theta_ext.merging.execution.work import MergedTensor, SignElection
from git_theta_ext.merging.outcome import Computed
from git_theta_ext.merging.planning.plan import scope_of
from git_theta_ext.merging.thresholds.scopes import counted_together, is_exact, scopes, values_of_scope
from git_theta_ext.model.manifest import Parameter
from git_theta_ext.records import replace
from git_theta_ext.registry import find_pair
from git_theta_ext.store.batches import Batches
from git_theta_ext.util.threads import no_progress

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterable, Iterator, Mapping, Sequence

    from git_theta_ext.checkpoint.draft import Draft
    from git_theta_ext.interfaces import MergeContract, Trim
    from git_theta_ext.merging.devices.device import Device
    from git_theta_ext.merging.execution.distributed import DistributedMerge
    from git_theta_ext.merging.execution.memory import Budget
    from git_theta_ext.merging.execution.tasks import Statistics, Task
    from git_theta_ext.merging.planning.plan import Plan
    from git_theta_ext.merging.thresholds.radix_select import Selection
    from git_theta_ext.model.tensor import Digest
    from git_theta_ext.store.tensor_store import TensorStore

    OpenDevices = Callable[[Sequence[MergeContract]], Devices]


class Engine:
    """Computes the values that a plan asks for.

    Args:
        store: Holds the values.
        devices: Where to compute, or a function that opens the devices for methods with some contracts; by default the
            CPU.
        journal: Remembers results, so that an interrupted merge can be resumed.
        statistics: The statistics beside the checkpoints, for methods that need them.
        advance: Called with the size in bytes of each tensor that is done, from any thread.
        results: Where to store the results; by default in ``store``.
        announce: Called with an estimate of what the merge takes, before it starts.
        distributed: Merges most tensors in jobs; None to merge all of them in this process.
        draft: Takes the results that this process computes.
    """

    def __init__(  # noqa: PLR0913, PLR0917 - all but the first have a default
        self,
        store: TensorStore,
        devices: Devices | OpenDevices | None = None,
        journal: Journal | None = None,
        statistics: Statistics | None = None,
        advance: Callable[[int], None] = no_progress,
        results: TensorStore | None = None,
        announce: Callable[[Budget], None] | None = None,
        distributed: DistributedMerge | None = None,
        draft: Draft | None = None,
    ) -> None:
        self._store = store
        self._devices = devices or Devices((Cpu(),))
        self._journal = journal or Journal(None)
        self._statistics = statistics or {}
        self._advance = advance
        self._results = Batches(results or store, self._journal.record)
        self._announce = announce
        self._distributed = distributed
        self._draft = draft

    @property
    def device(self) -> Device:
        """The first device, for elementwise work that is not distributed."""
        return self._scheduler([]).devices[0]

    def compute(self, plan: Plan) -> Computed:
        """Compute all values that a plan asks for; they are durable on return.

        Raises:
            ConfigError: A device that was asked for by name cannot be used.
            LibraryError: A method needs torch, which is not installed.
            MergeError: A device that was asked for by name has too little memory for a tensor.
            PluginError: A method is not installed, or violates its contract.
            StoreError: The store cannot be written.
        """
        computed = Computed()
        tasks = single_tasks(plan, self._statistics)
        missing = self._missing({member.digest for task in tasks for member in task.members})
        available = [task for task in tasks if is_available(task, missing, computed)]
        scheduler = self._scheduler([*(task.method.contract for task in available), *contracts_of(plan.pairs)])
        computed.notes += scheduler.notes
        budget = scheduler.budget(plan, available)
        if self._distributed is not None:
            budget = replace(budget, peaks=(("each job", self._distributed.memory(available)),))
        if self._announce is not None and budget.parameters:
            self._announce(budget)
        computed.notes += scheduler.note(available)
        require_torch([task.method.contract for task in available])
        require_torch([find_pair(pair.choice.method).contract for pair in plan.pairs])
        plain = [task for task in available if not task.method.contract.trims]
        whole = [task for task in plain if not task.streams]
        if small := [task for task in whole if is_small_matrix(task)]:
            with one_core(small=True):
                self._take(self._run(self._store, scheduler, small, SignElection()), computed)
        large = [task for task in whole if not is_small_matrix(task)]
        shared = self._distributed is not None and have_matrices(task.method.contract for task in large)
        with one_core(small=shared):  # jobs share the cores
            self._take(self._run(self._store, scheduler, large, SignElection()), computed)
        with one_thread():  # pieces are merged in parallel
            streamed = [task for task in plain if task.streams]
            store = self._store if self._distributed else held(self._store, members_of(streamed))
            self._take(self._run(store, scheduler, streamed, SignElection()), computed)
            together = [task for task in available if scope_of(task.choice) != "tensor"]
            self._take(self._elect(scheduler, plan, scopes(together)), computed)
            apart = [task for task in available if scope_of(task.choice) == "tensor"]
            self._take(self._elect_apart(scheduler, plan, apart), computed)
        self._merge_pairs(scheduler, plan, computed)
        compute_exactly(plan.decisions, self._store, self._results, computed, self._advance)
        self._results.flush()
        computed.notes += computed.moved_notes()
        return computed

    def thresholds(self, plan: Plan) -> dict[str, tuple[Trim, ...]]:
        """Return the thresholds for trimming each parameter, one for each side that changed it.

        Raises:
            MissingError: A value is not in the store.
            CorruptError: A value is damaged.
        """
        from git_theta_ext.merging.thresholds.search import counting_here, search

        thresholds = {}
        for together in counted_together(scopes(single_tasks(plan, self._statistics))):
            found = search(counting_here(self._store, self._scheduler([]), plan, together), plan, together)
            for group, selections in zip(together, found, strict=True):
                trims = [selection.threshold(exact=is_exact(group)) for selection in selections]
                for task in group:
                    thresholds.update(dict.fromkeys(task.names, tuple(trims[number] for number in task.changed_by)))
        return thresholds

    def _missing(self, digests: set[Digest]) -> set[Digest]:
        """Return the digests of tensors that cannot be read where tensors are merged."""
        where = self._store.touch_and_find_missing if self._distributed is None else self._distributed.provide
        return where(digests)

    def _scheduler(self, contracts: Sequence[MergeContract]) -> DeviceScheduler:
        """Open the devices for methods with some contracts."""
        devices = self._devices if isinstance(self._devices, Devices) else self._devices(contracts)
        return DeviceScheduler(devices, self._store.threads)

    def _take(self, results: Iterable[MergedTensor], computed: Computed) -> None:
        """Store results; only one thread does so."""
        for merged in results:
            names, value = merged.task.names, merged.stored
            if merged.data is not None:
                note = (merged.identity, merged.votes, merged.ties)
                value = self._results.add(merged.task.spec, merged.data, note=note, digest=merged.digest)
                if self._draft is not None:
                    self._draft.add(names, value, merged.data)
            if value is None:
                computed.failed.update(dict.fromkeys(names, merged.reason))
            else:
                computed.values.update(dict.fromkeys(names, value))
            computed.resumed += merged.resumed
            if merged.moved:
                computed.moved.setdefault(merged.moved, []).append(merged.task.name)

    def _elect_apart(self, scheduler: DeviceScheduler, plan: Plan, tasks: Sequence[Task]) -> Iterator[MergedTensor]:
        """Run tasks that each have their own scope, on all devices in parallel."""
        ordered = tasks if self._draft is None else self._draft.in_file_order(tasks)
        shared = [(scheduler.only(device), share) for device, share in scheduler.tasks(ordered)]
        return interleaved([partial(self._elect, only, plan, [[task] for task in share]) for only, share in shared])

    def _elect(
        self, scheduler: DeviceScheduler, plan: Plan, groups: Sequence[Sequence[Task]]
    ) -> Generator[MergedTensor, None, None]:
        """Run tasks that trim, scope by scope; repeat those that depend on the majority if it was guessed wrong."""
        if not groups:
            return
        from git_theta_ext.merging.thresholds.search import counting_here, search  # most methods trim nothing

        for together in counted_together(groups):
            everything = list(chain.from_iterable(together))
            values = values_of_scope(plan, everything)  # which are read two or three times
            jobs, store = self._distributed, self._store if self._distributed else held(self._store, values)
            try:
                found = search(jobs.count if jobs else counting_here(store, scheduler, plan, together), plan, together)
            except (MissingError, CorruptError) as error:
                for task in everything:
                    yield MergedTensor(task, None, f"cannot find the threshold: {error.message}")
                continue
            for tasks, selections in zip(together, found, strict=True):
                yield from self._elect_scope(store, scheduler, tasks, selections)

    def _elect_scope(
        self, store: TensorStore, scheduler: DeviceScheduler, tasks: Sequence[Task], selections: Sequence[Selection]
    ) -> Generator[MergedTensor, None, None]:
        """Run the tasks of a scope whose thresholds are known."""
        trims = [selection.threshold(exact=is_exact(tasks)) for selection in selections]
        pairs = list(zip(selections, trims, strict=True))
        guess = _sign(sum(selection.votes(trim, alone=False) for selection, trim in pairs))
        merged_tensors = yield from self._run_election(store, scheduler, tasks, SignElection(list(trims), guess))
        alone = sum(selection.votes(trim, alone=True) for selection, trim in pairs)
        majority = _sign(alone + sum(merged.votes for merged in merged_tensors))
        if majority != guess:
            election = SignElection(list(trims), majority)
            repeated = {merged.task.name for merged in merged_tensors if merged.ties or election.ordered}
            again = [task for task in tasks if task.name in repeated]
            yield from self._run_election(store, scheduler, again, election)

    def _run_election(
        self, store: TensorStore, scheduler: DeviceScheduler, tasks: Sequence[Task], election: SignElection
    ) -> Generator[MergedTensor, None, list[MergedTensor]]:
        """Run the tasks of one scope: in order if the order matters, else those that do not stream first."""
        if election.ordered:
            return (yield from self._run(store, scheduler, tasks, election))
        whole = yield from self._run(store, scheduler, [task for task in tasks if not task.streams], election)
        return whole + (yield from self._run(store, scheduler, [task for task in tasks if task.streams], election))

    def _run(
        self, store: TensorStore, scheduler: DeviceScheduler, tasks: Sequence[Task], election: SignElection
    ) -> Generator[MergedTensor, None, list[MergedTensor]]:
        """Merge tasks whose values a store has, except those that an earlier run merged.

        Returns the votes and ties of what it yields.
        """
        tasks = self._draft.in_file_order(tasks) if self._draft and not election.ordered else tasks
        remaining, merged_tensors = [], []
        kept = self._journal.kept or self._distributed is not None
        identities = {t.name: t.identity(election.trims_of(t), election.majority) if kept else "" for t in tasks}
        for task in tasks:
            earlier = None if election.ordered else self._journal.get(identities[task.name])
            if earlier is None or self._missing({earlier.digest}):
                remaining.append(task)
                continue
            value = Parameter(task.spec, earlier.digest)
            merged_tensors.append(
                MergedTensor(task, None, "", earlier.votes, earlier.ties, election.majority, stored=value, resumed=True)
            )
            yield merged_tensors[-1]
            self._advance(task.spec.nbytes)
        for merged in self._merged(store, scheduler, remaining, election, identities):
            yield replace(merged, identity=identities[merged.task.name]) if kept else merged
            merged_tensors.append(MergedTensor(merged.task, None, votes=merged.votes, ties=merged.ties))
        return merged_tensors

    def _merged(
        self,
        store: TensorStore,
        scheduler: DeviceScheduler,
        tasks: Sequence[Task],
        election: SignElection,
        identities: Mapping[str, str],
    ) -> Iterator[MergedTensor]:
        if self._distributed is not None and not election.ordered:
            for merged in self._distributed.merge(tasks, identities, election):
                yield merged
                self._advance(merged.task.spec.nbytes)
            return
        shared = scheduler.tasks(tasks, together=election.ordered)
        merge = partial(run, store, election=election, advance=self._advance, threads=scheduler.threads)
        yield from interleaved([partial(merge, device, share) for device, share in shared])

    def _merge_pairs(self, scheduler: DeviceScheduler, plan: Plan, computed: Computed) -> None:
        """Merge LoRAs, and store the results."""
        if not plan.pairs:
            return
        from git_theta_ext.merging.execution.pairs import merged_pairs  # most models have none

        for merged in merged_pairs(self._store, scheduler, plan.pairs, plan.sides):
            pair = merged.pair
            if merged.reason:
                computed.failed.update(dict.fromkeys(filter(None, (*pair.names, pair.alpha)), merged.reason))
                continue
            for name, (spec, data) in merged.values.items():
                computed.values[name] = self._results.add(spec, data)
                if self._draft is not None:
                    self._draft.add((name,), computed.values[name], data)
            computed.notes += [*merged.notes, *filter(None, [pair.note])]
            if merged.moved:
                computed.moved.setdefault(merged.moved, []).append(pair.names[0])


def _sign(votes: int) -> int:
    return 1 if votes > 0 else -1
