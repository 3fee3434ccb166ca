"""Carry out the computations of a merge: thresholds first, then every tensor, then what an election overturned."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass, field
from math import floor
from typing import TYPE_CHECKING

from git_theta_ext.errors import CorruptError, MissingError
from git_theta_ext.merging.device import Cpu, Devices, one_thread
from git_theta_ext.merging.journal import Journal
from git_theta_ext.merging.pairs import merge_pairs
from git_theta_ext.merging.plan import counted, scope_of
from git_theta_ext.merging.select import Selection, counts
from git_theta_ext.merging.stream import readable, run
from git_theta_ext.merging.tasks import tasks_of
from git_theta_ext.merging.work import Ballot, Merged
from git_theta_ext.model.manifest import Parameter
from git_theta_ext.model.numbers import is_wide
from git_theta_ext.store.batches import Batches
from git_theta_ext.store.pool import no_progress

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

    import torch

    from git_theta_ext.interfaces import Trim
    from git_theta_ext.merging.device import Device
    from git_theta_ext.merging.plan import Plan
    from git_theta_ext.merging.tasks import Statistics, Task
    from git_theta_ext.store.blobs import Store
    from git_theta_ext.store.memory import Memory

    # The common ancestor's value, and the changed ones by the number of their side.
    Changed = tuple[Parameter, dict[int, Parameter]]


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
            f"{device} ran out of memory over {names[0]!r}{f' and {len(names) - 1} more' if names[1:] else ''}:"
            " merged on the processor"
            for device, names in self.lacking.items()
        ]


class Engine:
    """Computes what a plan asks for.

    Args:
        store: Holds the values.
        devices: Where to compute; the processor if left out.
        journal: Remembers results, so that a merge that was killed goes on where it was.
        statistics: What lies beside the checkpoint for methods with sidecars.
        advance: Told the number of bytes of each tensor that is done.
        results: Takes the results; the store if left out.

    Attributes:
        device: Where it computes.
    """

    def __init__(  # noqa: PLR0913, PLR0917 - all but the first have a default that does nothing
        self,
        store: Store | Memory,
        devices: Devices | None = None,
        journal: Journal | None = None,
        statistics: Statistics | None = None,
        advance: Callable[[int], None] = no_progress,
        results: Store | Memory | None = None,
    ) -> None:
        self._store = store
        self.device: Device = (devices or Devices((Cpu(),))).used[0]
        self._journal = journal or Journal(None)
        self._statistics = statistics or {}
        self._advance = advance
        self._results = Batches(results or store, self._journal.settle)

    def compute(self, plan: Plan) -> Computed:
        """Merge all that is to be computed; durable on return.

        Raises:
            PluginError: A method is missing or does not keep its contract.
            StoreError: The store cannot be written.
        """
        found = Computed()
        tasks = self._tasks(plan)
        here = [task for task in tasks if self._is_here(task, found)]
        plain = [task for task in here if not task.method.contract.trims]
        self._run([task for task in plain if not task.streams], Ballot(), found)
        with one_thread():  # pieces are merged side by side
            self._run([task for task in plain if task.streams], Ballot(), found)
            for group in _scopes(task for task in here if task.method.contract.trims):
                self._elect(plan, group, found)
        self._run_pairs(plan, found)
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
        for group in _scopes(task for task in self._tasks(plan) if task.method.contract.trims):
            trims = [selection.threshold(exact=_exact(group)) for selection in self._selections(plan, group)]
            for task in group:
                found.update(dict.fromkeys(task.names, tuple(trims[number] for number in task.changers)))
        return found

    def _tasks(self, plan: Plan) -> list[Task]:
        paired = {name for pair in plan.pairs for name in (*pair.names, pair.alpha)}
        return tasks_of((d for d in plan.decisions if d.name not in paired), self._statistics)

    def _run_pairs(self, plan: Plan, found: Computed) -> None:
        for merged in merge_pairs(self._store, self.device, plan.pairs, plan.sides):
            pair = merged.pair
            if merged.fault:
                found.failed.update(dict.fromkeys(filter(None, (*pair.names, pair.alpha)), merged.fault))
                continue
            found.values.update({name: self._results.add(spec, data) for name, (spec, data) in merged.values.items()})
            found.notes += [*merged.notes, *filter(None, [pair.note])]
            if merged.lacking:
                found.lacking.setdefault(merged.lacking, []).append(pair.names[0])

    def _is_here(self, task: Task, found: Computed) -> bool:
        missing = self._store.missing({member.digest for member in task.members})
        if missing:
            reason = f"{min(missing)} is not in the store"
            found.failed.update(dict.fromkeys(task.names, reason))
        return not missing

    def _elect(self, plan: Plan, tasks: Sequence[Task], found: Computed) -> None:
        """Run tasks of one scope that trim, and those again that a wrong guess of the majority decided."""
        try:
            selections = self._selections(plan, tasks)
        except (MissingError, CorruptError) as error:
            reason = f"no threshold can be found: {error.message}"
            found.failed.update({name: reason for task in tasks for name in task.names})
            return
        trims = [selection.threshold(exact=_exact(tasks)) for selection in selections]
        pairs = list(zip(selections, trims, strict=True))
        guess = _sign(sum(selection.votes(trim, alone=False) for selection, trim in pairs))
        done = self._run(tasks, Ballot(list(trims), guess), found)
        alone = sum(selection.votes(trim, alone=True) for selection, trim in pairs)
        majority = _sign(alone + sum(merged.votes for merged in done))
        if majority != guess:
            self._run([merged.task for merged in done if merged.ties], Ballot(list(trims), majority), found)

    def _selections(self, plan: Plan, tasks: Sequence[Task]) -> list[Selection]:
        """Find the threshold of every side over the scope of some tasks."""
        changed = _changed(plan) if scope_of(tasks[0].choice) == "model" else [_inputs(task) for task in tasks]
        options, sides = tasks[0].choice.options, len(plan.sides)
        total = sum(base.spec.elements for base, _ in changed)
        keep = min(total, floor(total * float(options["density"])) + 1)
        found = [Selection(keep) for _ in range(sides)]
        for base, values in changed:
            for number in set(range(sides)) - set(values):
                found[number].zeros += base.spec.elements
        groups = [(base, values) for base, values in changed if values]
        for last in (False, True):
            for numbers, pieces, alone in self._counted(groups, [selection.bin for selection in found], again=last):
                for number, piece in zip(numbers, pieces, strict=True):
                    found[number].add(piece, alone=alone)
            for selection in [] if last else found:
                selection.narrow()
        return found

    def _counted(
        self, groups: Sequence[Changed], bins: Sequence[int], *, again: bool
    ) -> Iterator[tuple[list[int], list[torch.Tensor], bool]]:
        """Count the magnitudes of all changes, piece by piece; the first time the values are verified."""
        import torch

        def count(item: int, _start: int, chunks: tuple[memoryview, ...]) -> list[torch.Tensor]:
            base, values = groups[item]
            wide = any(is_wide(member.spec.dtype) for member in (base, *values.values()))
            found = []
            with self.device.lane() as lane:
                start = lane.load(chunks[0], base.spec.dtype, wide=wide)
                for (number, value), chunk in zip(values.items(), chunks[1:], strict=True):
                    vector = lane.load(chunk, value.spec.dtype, wide=wide) - start
                    found.append(counts(vector.to(torch.float32), bins[number]))
            return found

        read = readable(
            self._store,
            [[base, *values.values()] for base, values in groups],
            count,
            verify=not again,
            span=self.device.span,
        )
        for item, _, chunks, found in read:
            if chunks:
                numbers = list(groups[item][1])
                yield numbers, found, len(numbers) == 1

    def _run(self, tasks: Sequence[Task], ballot: Ballot, found: Computed) -> list[Merged]:
        todo, known = [], []
        for task in tasks:
            identity = task.identity(ballot.of(task), ballot.majority)
            before = None if ballot.counts else self._journal.get(identity)
            if before is None or self._store.missing({before.digest}):
                todo.append((task, identity))
            else:
                found.values.update(dict.fromkeys(task.names, Parameter(task.spec, before.digest)))
                found.resumed += 1
                known.append(Merged(task, None, "", before.votes, before.ties, ballot.majority))
                self._advance(task.spec.nbytes)
        done = []
        identities = {task.name: identity for task, identity in todo}
        for merged in run(self._store, self.device, [task for task, _ in todo], ballot, self._advance):
            if merged.data is None:
                found.failed.update(dict.fromkeys(merged.task.names, merged.reason))
            else:
                note = (identities[merged.task.name], merged.votes, merged.ties)
                value = self._results.add(merged.task.spec, merged.data, note=note)
                found.values.update(dict.fromkeys(merged.task.names, value))
            if merged.lacking:
                found.lacking.setdefault(merged.lacking, []).append(merged.task.name)
            done.append(Merged(merged.task, None, merged.reason, merged.votes, merged.ties, merged.majority))
        return [*known, *done]


def _sign(votes: int) -> int:
    return 1 if votes > 0 else -1


def _scopes(tasks: Iterable[Task]) -> list[list[Task]]:
    """Group tasks by what they find their thresholds over; rules that ask for the same are one."""
    groups: dict[tuple[object, ...], list[Task]] = defaultdict(list)
    for task in tasks:
        scope, asked = scope_of(task.choice), (task.choice.method, tuple(sorted(task.choice.options.items())))
        place = {"model": (), "rule": (task.choice.number,)}.get(scope, (task.name,))
        groups[scope, asked, place].append(task)
    return list(groups.values())


def _exact(tasks: Sequence[Task]) -> bool:
    return tasks[0].choice.options["ties"] == "exact"


def _inputs(task: Task) -> Changed:
    assert task.base is not None
    return task.base, dict(zip(task.changers, task.branches, strict=True))


def _changed(plan: Plan) -> list[Changed]:
    """Return all parameters of floats that the common ancestor has, tied ones once, with their changes."""
    found: dict[tuple[object, ...], Changed] = {}
    for decision in plan.decisions:
        base = decision.base
        if base is None or base.spec.dtype.kind != "float" or not base.spec.dtype.arithmetic:
            continue
        usable = set(counted(decision)[1:])
        values = {n: value for n in decision.changers if (value := decision.sides[n]) in usable and value is not None}
        found.setdefault((base, decision.sides), (base, values))
    return list(found.values())
