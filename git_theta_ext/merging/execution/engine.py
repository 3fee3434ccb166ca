"""Carry out the computations of a merge: thresholds first, then every tensor, then what an election overturned."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from functools import partial
from typing import TYPE_CHECKING

from git_theta_ext.errors import CorruptError, MissingError
from git_theta_ext.merging.devices.cpu import Cpu, one_thread
from git_theta_ext.merging.devices.device import Devices
from git_theta_ext.merging.execution.exact import compute as compute_exactly
from git_theta_ext.merging.execution.journal import Journal
from git_theta_ext.merging.execution.pairs import merge_pairs
from git_theta_ext.merging.execution.parallel import interleaved
from git_theta_ext.merging.execution.scheduler import DeviceScheduler
from git_theta_ext.merging.execution.stream import run
from git_theta_ext.merging.execution.tasks import single_tasks
from git_theta_ext.merging.execution.work import MergedTensor, SignElection
from git_theta_ext.merging.planning.plan import scope_of
from git_theta_ext.merging.thresholds.scopes import is_exact, scopes
from git_theta_ext.merging.thresholds.search import search
from git_theta_ext.model.manifest import Parameter
from git_theta_ext.store.batches import Batches
from git_theta_ext.util.libraries import require
from git_theta_ext.util.text import shortlist
from git_theta_ext.util.threads import no_progress

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterable, Iterator, Sequence

    from git_theta_ext.interfaces import Trim
    from git_theta_ext.merging.devices.device import Device
    from git_theta_ext.merging.execution.memory import Budget
    from git_theta_ext.merging.execution.tasks import Statistics, Task
    from git_theta_ext.merging.planning.plan import Plan
    from git_theta_ext.store.tensor_store import TensorStore


@dataclass
class Computed:
    """What came of a merge's computations.

    Attributes:
        values: Parameter to its merged value.
        failed: Parameter to why it could not be merged.
        notes: What the user should know.
        resumed: Number of results that an earlier run had stored.
        lacking: Device to the parameters that it had no memory left for.
    """

    values: dict[str, Parameter] = field(default_factory=dict)
    failed: dict[str, str] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)
    resumed: int = 0
    lacking: dict[str, list[str]] = field(default_factory=dict)

    def lacks(self) -> list[str]:
        """Return a note for each device that ran out of memory."""
        return [
            f"{device} ran out of memory: merged {shortlist(map(repr, names), 1)} on the CPU"
            for device, names in self.lacking.items()
        ]


class Engine:
    """Computes what a plan asks for.

    Args:
        store: Holds the values.
        devices: Where to compute; the processor if left out.
        journal: Remembers results, so that a merge that was killed goes on where it was.
        statistics: What lies beside the checkpoint for methods with sidecars.
        advance: Told the number of bytes of each tensor that is done; from any thread.
        results: Takes the results; the store if left out.
        announce: Told what is about to be computed and the memory that this needs, before it is.

    Raises:
        LibraryError: Torch is not installed.
    """

    def __init__(  # noqa: PLR0913, PLR0917 - all but the first have a default that does nothing
        self,
        store: TensorStore,
        devices: Devices | None = None,
        journal: Journal | None = None,
        statistics: Statistics | None = None,
        advance: Callable[[int], None] = no_progress,
        results: TensorStore | None = None,
        announce: Callable[[Budget], None] | None = None,
    ) -> None:
        require("torch", "a merge method")
        self._store = store
        self._scheduler = DeviceScheduler(devices or Devices((Cpu(),)), store.threads)
        self._journal = journal or Journal(None)
        self._statistics = statistics or {}
        self._advance = advance
        self._results = Batches(results or store, self._journal.record)
        self._announce = announce

    @property
    def device(self) -> Device:
        """The first device, for work that is not shared."""
        return self._scheduler.devices[0]

    def compute(self, plan: Plan) -> Computed:
        """Merge all that is to be computed; durable on return.

        Raises:
            MergeError: A device that was asked for by name has no memory for a tensor.
            PluginError: A method is missing or does not keep its contract.
            StoreError: The store cannot be written.
        """
        found = Computed()
        here = [task for task in single_tasks(plan, self._statistics) if self._is_here(task, found)]
        budget = self._scheduler.budget(plan, here)
        if self._announce is not None and budget.parameters:
            self._announce(budget)
        found.notes += self._scheduler.note(here)
        plain = [task for task in here if not task.method.contract.trims]
        self._take(self._run(self._scheduler, [task for task in plain if not task.streams], SignElection()), found)
        with one_thread():  # pieces are merged side by side
            self._take(self._run(self._scheduler, [task for task in plain if task.streams], SignElection()), found)
            together = [task for task in here if scope_of(task.choice) != "tensor"]
            self._take(self._elect(self._scheduler, plan, scopes(together)), found)
            self._take(self._elect_apart(plan, [t for t in here if scope_of(t.choice) == "tensor"]), found)
        self._run_pairs(plan, found)
        compute_exactly(plan.decisions, self._store, self._results, found, self._advance)
        self._results.flush()
        found.notes += found.lacks()
        return found

    def thresholds(self, plan: Plan) -> dict[str, tuple[Trim, ...]]:
        """Return the thresholds by which parameters are trimmed, one for each side that changed them.

        Raises:
            MissingError: A value is not here.
            CorruptError: A value is damaged.
        """
        found = {}
        for group in scopes(single_tasks(plan, self._statistics)):
            selections = search(self._store, self._scheduler, plan, group)
            trims = [selection.threshold(exact=is_exact(group)) for selection in selections]
            for task in group:
                found.update(dict.fromkeys(task.names, tuple(trims[number] for number in task.changed_by)))
        return found

    def _is_here(self, task: Task, found: Computed) -> bool:
        missing = self._store.touch_and_find_missing({member.digest for member in task.members})
        if missing:
            reason = f"{min(missing)} is not in the store"
            found.failed.update(dict.fromkeys(task.names, reason))
        return not missing

    def _take(self, results: Iterable[MergedTensor], found: Computed) -> None:
        """Store what comes, in this thread alone."""
        for merged in results:
            names, value = merged.task.names, merged.known
            if merged.data is not None:
                note = (merged.identity, merged.votes, merged.ties)
                value = self._results.add(merged.task.spec, merged.data, note=note)
            if value is None:
                found.failed.update(dict.fromkeys(names, merged.reason))
            else:
                found.values.update(dict.fromkeys(names, value))
            found.resumed += merged.known is not None
            if merged.lacking:
                found.lacking.setdefault(merged.lacking, []).append(merged.task.name)

    def _elect_apart(self, plan: Plan, tasks: Sequence[Task]) -> Iterator[MergedTensor]:
        """Elect tasks that have each a scope of their own, on all devices side by side."""
        shared = [(self._scheduler.only(device), share) for device, share in self._scheduler.tasks(tasks)]
        return interleaved(
            [partial(self._elect, scheduler, plan, [[task] for task in share]) for scheduler, share in shared]
        )

    def _elect(
        self, scheduler: DeviceScheduler, plan: Plan, groups: Sequence[Sequence[Task]]
    ) -> Generator[MergedTensor, None, None]:
        """Run tasks that trim, scope by scope, and those again that a wrong guess of the majority decided."""
        for tasks in groups:
            try:
                selections = search(self._store, scheduler, plan, tasks)
            except (MissingError, CorruptError) as error:
                for task in tasks:
                    yield MergedTensor(task, None, f"no threshold can be found: {error.message}")
                continue
            trims = [selection.threshold(exact=is_exact(tasks)) for selection in selections]
            pairs = list(zip(selections, trims, strict=True))
            guess = _sign(sum(selection.votes(trim, alone=False) for selection, trim in pairs))
            done = yield from self._run_election(scheduler, tasks, SignElection(list(trims), guess))
            alone = sum(selection.votes(trim, alone=True) for selection, trim in pairs)
            majority = _sign(alone + sum(merged.votes for merged in done))
            if majority != guess:
                election = SignElection(list(trims), majority)
                again = {merged.task.name for merged in done if merged.ties or election.ordered}
                yield from self._run_election(scheduler, [task for task in tasks if task.name in again], election)

    def _run_election(
        self, scheduler: DeviceScheduler, tasks: Sequence[Task], election: SignElection
    ) -> Generator[MergedTensor, None, list[MergedTensor]]:
        """Run tasks of one scope: in their order where that counts, else those apart that take most memory."""
        if election.ordered:
            return (yield from self._run(scheduler, tasks, election))
        whole = yield from self._run(scheduler, [task for task in tasks if not task.streams], election)
        return whole + (yield from self._run(scheduler, [task for task in tasks if task.streams], election))

    def _run(
        self, scheduler: DeviceScheduler, tasks: Sequence[Task], election: SignElection
    ) -> Generator[MergedTensor, None, list[MergedTensor]]:
        """Merge tasks, but for those that an earlier run had merged; returns the same as it yields, without data."""
        todo, done = [], []
        identities = {task.name: task.identity(election.trims_of(task), election.majority) for task in tasks}
        for task in tasks:
            before = None if election.ordered else self._journal.get(identities[task.name])
            if before is None or self._store.touch_and_find_missing({before.digest}):
                todo.append(task)
                continue
            value = Parameter(task.spec, before.digest)
            done.append(MergedTensor(task, None, "", before.votes, before.ties, election.majority, known=value))
            yield done[-1]
            self._advance(task.spec.nbytes)
        shared = scheduler.tasks(todo, together=election.ordered)
        for merged in interleaved([partial(self._share, device, share, election) for device, share in shared]):
            yield replace(merged, identity=identities[merged.task.name])
            done.append(replace(merged, data=None))
        return done

    def _share(
        self, device: Device, tasks: Sequence[Task], election: SignElection
    ) -> Generator[MergedTensor, None, None]:
        return run(self._store, device, tasks, election, self._advance, self._scheduler.threads)

    def _run_pairs(self, plan: Plan, found: Computed) -> None:
        shared = self._scheduler.work(plan.pairs, lambda pair: sum(spec.nbytes for spec in pair.specs.values()))
        for merged in interleaved([partial(merge_pairs, self._store, *share, plan.sides) for share in shared]):
            pair = merged.pair
            if merged.fault:
                found.failed.update(dict.fromkeys(filter(None, (*pair.names, pair.alpha)), merged.fault))
                continue
            found.values.update({name: self._results.add(spec, data) for name, (spec, data) in merged.values.items()})
            found.notes += [*merged.notes, *filter(None, [pair.note])]
            if merged.lacking:
                found.lacking.setdefault(merged.lacking, []).append(pair.names[0])


def _sign(votes: int) -> int:
    return 1 if votes > 0 else -1
