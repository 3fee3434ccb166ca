"""List the values to compute, each different one once, with all that it depends on."""

from __future__ import annotations

import json
from functools import cached_property
from typing import TYPE_CHECKING

from blake3 import blake3

from git_theta_ext.merging.devices.methods import have_matrices
from git_theta_ext.merging.devices.one_core import SMALL
from git_theta_ext.model.conflicts import side_names
from git_theta_ext.model.floats import components, is_wide
from git_theta_ext.model.tensor import TensorSpec
from git_theta_ext.records import dataclass, field, replace
from git_theta_ext.registry import find_merge, find_pair

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence

    from git_theta_ext.interfaces import MergeContract, MergeMethod, Trim
    from git_theta_ext.merging.outcome import Computed
    from git_theta_ext.merging.planning.decision import Decision
    from git_theta_ext.merging.planning.plan import Plan
    from git_theta_ext.merging.planning.units import PairDecision
    from git_theta_ext.merging.rules.rules import Choice
    from git_theta_ext.model.manifest import Parameter
    from git_theta_ext.model.tensor import Digest

    Statistics = Mapping[int, Mapping[str, Parameter]]
    """Index of a side to its statistics by ``KIND/PARAMETER``, see docs/statistics.md."""


ROW_ELEMENTS = 1 << 22
"""The approximate number of elements in a piece of whole rows."""


def chunk_elements(spec: TensorSpec) -> int:
    """Return the number of elements in a chunk of a stored tensor."""
    return spec.chunk_bytes * 8 // spec.dtype.bits


@dataclass(frozen=True)
class Task:
    """A tensor to compute.

    Attributes:
        names: The parameters that have this value; several if they are tied. The first one is its name.
        choice: The method and its options.
        base: The common ancestor's value; None if the method needs none.
        branches: The changed values.
        changed_by: Indices of the sides that have them.
        sides: The names of these sides.
        spec: Spec of the result: our element type, and the shape of the side with the most rows.
        sidecars: Kind of statistics to a tensor for each branch.
    """

    names: tuple[str, ...]
    choice: Choice
    base: Parameter | None
    branches: tuple[Parameter, ...]
    changed_by: tuple[int, ...]
    sides: tuple[str, ...]
    spec: TensorSpec
    sidecars: Mapping[str, tuple[Parameter, ...]] = field(default_factory=dict)

    @property
    def name(self) -> str:
        """The first parameter."""
        return self.names[0]

    @cached_property
    def method(self) -> MergeMethod:
        """The merge method."""
        return find_merge(self.choice.method)

    @cached_property
    def members(self) -> list[Parameter]:
        """All tensors that are read, in the order in which they are read."""
        before = [] if self.base is None else [self.base]
        return [*before, *self.branches, *(tensor for tensors in self.sidecars.values() for tensor in tensors)]

    @cached_property
    def whose(self) -> list[str]:
        """The name of each of ``members`` in messages."""
        before = [] if self.base is None else ["base"]
        return [*before, *self.sides, *(f"the {kind} statistics" for kind, all_ in self.sidecars.items() for _ in all_)]

    @cached_property
    def grower(self) -> int | None:
        """Index of the branch that has more rows than the others; None if there is none."""
        longer = [n for n, branch in enumerate(self.branches) if branch.spec.shape != self.common.shape]
        return longer[0] if longer else None

    @cached_property
    def common(self) -> TensorSpec:
        """Element type of the result, and the shape that all branches have in common."""
        rows = min((branch.spec.shape[:1] for branch in self.branches), default=())
        return TensorSpec(self.spec.dtype, (*rows, *self.spec.shape[1:]))

    @cached_property
    def streams(self) -> bool:
        """Whether it is merged as it is read, with only a piece of each input in memory."""
        spec, others = self.spec, [member.spec for member in self.members if member.spec is not self.spec]
        sizes = {(other.elements, chunk_elements(other)) for other in others}
        return self.method.contract.granularity == "element" and sizes <= {(spec.elements, chunk_elements(spec))}

    @property
    def rows(self) -> int:
        """Number of rows that are merged at a time if it does not stream: all, unless the method works row by row.

        If a member has another shape, all rows are merged at once, so that the method can reject it.
        """
        shape, elements = self.common.shape, self.common.elements
        all_names = shape[0] if shape else 1
        whole = self.method.contract.granularity == "matrix" or len(shape) <= 1 or not elements
        if whole or not all(self.has_rows(member) for member in self.members):
            return max(1, all_names)
        return max(1, ROW_ELEMENTS * all_names // elements)

    def has_rows(self, member: Parameter) -> bool:
        """Return whether a member has the rows of ``common``, and possibly more."""
        shape = member.spec.shape
        longer = self.grower is not None and shape[1:] == self.common.shape[1:] and shape[:1] >= self.common.shape[:1]
        return shape == self.common.shape or longer

    @cached_property
    def wide(self) -> bool:
        """Whether float32 would lose bits of an input."""
        return any(is_wide(member.spec.dtype) for member in self.members)

    @cached_property
    def weights(self) -> tuple[float, ...]:
        """A weight for each branch."""
        weights = self.choice.weights
        return tuple(weights[number] if weights else 1.0 for number in self.changed_by)

    @cached_property
    def keys(self) -> tuple[int, ...]:
        """A key for each branch, from which random numbers are generated."""
        if not self.method.contract.stochastic:
            return ()
        base = "" if self.base is None else self.base.digest
        seed = int(self.choice.options["seed"])
        return tuple(
            int.from_bytes(_hash([base, self.name, branch.digest, seed]).digest(8), "little")
            for branch in self.branches
        )

    @property
    def in_order(self) -> bool:
        """Whether what is kept of equal magnitudes depends on those before."""
        return self.choice.options.get("ties") == "exact"

    @property
    def numbers(self) -> int:
        """Number of real numbers in an element."""
        return components(self.spec.dtype)

    def identity(self, trims: Sequence[Trim], majority: int) -> str:
        """Return a hash of everything that the bits of the result depend on."""
        contract = self.method.contract
        facts = [
            self.choice.method,
            contract.version,
            sorted(self.choice.options.items()),
            self.weights,
            str(self.spec),
        ]
        facts += ["" if self.base is None else self.base.digest, [branch.digest for branch in self.branches]]
        facts += [{kind: [tensor.digest for tensor in tensors] for kind, tensors in self.sidecars.items()}]
        facts += [self.keys, [[trim.bits, trim.equal] for trim in trims], majority]
        return _hash(facts).hexdigest()


def _hash(facts: Sequence[object]) -> blake3:
    return blake3(json.dumps(facts, sort_keys=True).encode())


def tasks_of(decisions: Iterable[Decision], statistics: Statistics) -> list[Task]:
    """Return the tensors to compute, tied parameters once.

    Args:
        decisions: Decisions in the order of the parameters' names; those that compute nothing are skipped.
        statistics: The statistics beside the checkpoints, for methods that need them.
    """
    tasks: dict[tuple[object, ...], Task] = {}
    for decision in decisions:
        if decision.action != "compute":
            continue
        task = _task(decision, statistics)
        values = [None if value is None else value.digest for value in (decision.base, *decision.sides)]
        key = (*values, task.choice.method, task.choice.rule_index)
        before = tasks.get(key)
        tasks[key] = task if before is None else replace(before, names=(*before.names, decision.name))
    return list(tasks.values())


def single_tasks(plan: Plan, statistics: Statistics) -> list[Task]:
    """Return the tensors that a plan computes, without the LoRAs that are merged as pairs."""
    paired = {name for pair in plan.pairs for name in (*pair.names, pair.alpha)}
    return tasks_of((decision for decision in plan.decisions if decision.name not in paired), statistics)


def read_here(plan: Plan, statistics: Statistics) -> Iterator[Digest]:
    """Yield the digests that the process which merges reads itself if it merges in jobs.

    Args:
        plan: The plan.
        statistics: As for ``tasks_of``.
    """
    yield from plan.reads_layouts()
    in_jobs = {name for task in single_tasks(plan, statistics) if not task.in_order for name in task.names}
    for decision in plan.decisions:
        if decision.name not in in_jobs:
            yield from (parameter.digest for parameter in decision.inputs)
    for task in tasks_of(plan.decisions, statistics):
        if task.name not in in_jobs:
            yield from (member.digest for member in task.members)


def _task(decision: Decision, statistics: Statistics) -> Task:
    contract = find_merge(decision.choice.method).contract
    values = [(number, decision.sides[number]) for number in decision.changed_by]
    branches = tuple(value for _, value in values if value is not None)
    merged = decision.value
    assert merged is not None
    sidecars = {}
    for kind in contract.sidecars:
        tensors = [statistics.get(number, {}).get(f"{kind}/{decision.name}") for number, _ in values]
        present = tuple(tensor for tensor in tensors if tensor is not None)
        if len(present) == len(values):
            sidecars[kind] = present
    base = decision.base if contract.needs_base else None
    all_names = side_names(len(decision.sides))
    names = tuple(all_names[number] for number, _ in values)
    return Task((decision.name,), decision.choice, base, branches, decision.changed_by, names, merged.spec, sidecars)


def members_of(tasks: Iterable[Task]) -> list[Parameter]:
    """Return all tensors that some tasks read."""
    return [member for task in tasks for member in task.members]


def digests_of(tasks: Iterable[Task]) -> set[Digest]:
    """Return the digests of all tensors that some tasks read."""
    return {member.digest for member in members_of(tasks)}


def is_available(task: Task, missing: Collection[Digest], computed: Computed) -> bool:
    """Return whether a store has all values that a task reads; otherwise its parameters failed."""
    lacking = {member.digest for member in task.members if member.digest in missing}
    if lacking:
        computed.failed.update(dict.fromkeys(task.names, f"{min(lacking)} is not in the store"))
    return not lacking


def is_small_matrix(task: Task) -> bool:
    """Return whether a task multiplies or decomposes a matrix, and a single thread does that fastest."""
    return have_matrices([task.method.contract]) and task.spec.elements <= SMALL


def is_small_pair(pair: PairDecision) -> bool:
    """Return whether the factors of a LoRA are so small that a single core merges them fastest."""
    return len(pair.changed_by) * sum(spec.elements for spec in pair.specs.values()) <= SMALL


def contracts_of(pairs: Iterable[PairDecision]) -> list[MergeContract]:
    """Return the contracts of the methods that merge the LoRAs which are not small."""
    return [find_pair(pair.choice.method).contract for pair in pairs if not is_small_pair(pair)]
