"""What there is to compute: each different result once, with all that it depends on."""

from __future__ import annotations

import json
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import TYPE_CHECKING

from blake3 import blake3

from git_theta_ext.model.floats import components, is_wide
from git_theta_ext.model.manifest import side_names
from git_theta_ext.model.tensor import TensorSpec
from git_theta_ext.registry import find_merge

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from git_theta_ext.interfaces import MergeMethod, Trim
    from git_theta_ext.merging.planning.decision import Decision
    from git_theta_ext.merging.planning.plan import Plan
    from git_theta_ext.merging.rules.rules import Choice
    from git_theta_ext.model.manifest import Parameter
    from git_theta_ext.model.tensor import Digest

    Statistics = Mapping[int, Mapping[str, Parameter]]
    """Number of a side to its statistics by ``KIND/PARAMETER``, as docs/statistics.md lays them out."""


ROW_ELEMENTS = 1 << 22
"""About the elements of the pieces that methods of rows get."""


def chunk_elements(spec: TensorSpec) -> int:
    """Return how many elements a chunk of a tensor in the store has."""
    return spec.chunk_bytes * 8 // spec.dtype.bits


@dataclass(frozen=True)
class Task:
    """A tensor to be computed.

    Attributes:
        names: The parameters that it is the value of: several where they are tied. The first one counts.
        choice: How.
        base: The common ancestor's value, None where the method needs none.
        branches: The changed values.
        changed_by: Indices of the sides that have them.
        sides: The names of these sides.
        spec: Of the result: our element type, and the shape of the side that has the most rows.
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
        """What merges the values."""
        return find_merge(self.choice.method)

    @cached_property
    def members(self) -> list[Parameter]:
        """All that is read, in the order in which it is read."""
        before = [] if self.base is None else [self.base]
        return [*before, *self.branches, *(found for kind in self.sidecars.values() for found in kind)]

    @cached_property
    def whose(self) -> list[str]:
        """What to call each of ``members`` in messages."""
        before = [] if self.base is None else ["base"]
        return [*before, *self.sides, *(f"the {kind} statistics" for kind, all_ in self.sidecars.items() for _ in all_)]

    @cached_property
    def grower(self) -> int | None:
        """The place among the branches of the one that has more rows than the others."""
        longer = [n for n, branch in enumerate(self.branches) if branch.spec.shape != self.common.shape]
        return longer[0] if longer else None

    @cached_property
    def common(self) -> TensorSpec:
        """Element type of the result, and the shape that all branches have at least."""
        rows = min((branch.spec.shape[:1] for branch in self.branches), default=())
        return TensorSpec(self.spec.dtype, (*rows, *self.spec.shape[1:]))

    @cached_property
    def streams(self) -> bool:
        """Whether it can be merged as it is read, with no more than a piece of each input in memory."""
        sizes = {(member.spec.elements, chunk_elements(member.spec)) for member in self.members}
        alike = sizes == {(self.spec.elements, chunk_elements(self.spec))}
        return self.method.contract.granularity == "element" and alike

    @property
    def rows(self) -> int:
        """How many rows are merged at a time where it does not stream: all, unless the method takes rows by themselves.

        Members of another shape, which no method should take, are seen by it only together with all rows.
        """
        shape, elements = self.common.shape, self.common.elements
        every = shape[0] if shape else 1
        whole = self.method.contract.granularity == "matrix" or len(shape) <= 1 or not elements
        if whole or not all(self.has_rows(member) for member in self.members):
            return max(1, every)
        return max(1, ROW_ELEMENTS * every // elements)

    def has_rows(self, member: Parameter) -> bool:
        """Tell whether a member has all rows of ``common``, and perhaps more."""
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
        given = self.choice.weights
        return tuple(given[number] if given else 1.0 for number in self.changed_by)

    @cached_property
    def keys(self) -> tuple[int, ...]:
        """A number for each branch that random numbers are drawn from."""
        if not self.method.contract.stochastic:
            return ()
        base = "" if self.base is None else self.base.digest
        seed = int(self.choice.options["seed"])
        return tuple(
            int.from_bytes(_hash([base, self.name, branch.digest, seed]).digest(8), "little")
            for branch in self.branches
        )

    @property
    def numbers(self) -> int:
        """How many reals an element has."""
        return components(self.spec.dtype)

    def identity(self, trims: Sequence[Trim], majority: int) -> str:
        """Return a text that is the same only where the result's bits are."""
        contract = self.method.contract
        facts = [
            self.choice.method,
            contract.version,
            sorted(self.choice.options.items()),
            self.weights,
            str(self.spec),
        ]
        facts += ["" if self.base is None else self.base.digest, [branch.digest for branch in self.branches]]
        facts += [{kind: [found.digest for found in all_] for kind, all_ in self.sidecars.items()}]
        facts += [self.keys, [[trim.bits, trim.equal] for trim in trims], majority]
        return _hash(facts).hexdigest()


def _hash(facts: Sequence[object]) -> blake3:
    return blake3(json.dumps(facts, sort_keys=True).encode())


def tasks_of(decisions: Iterable[Decision], statistics: Statistics) -> list[Task]:
    """Return what is to be computed, tied parameters once.

    Args:
        decisions: In the order of the parameters' names; those that are not to be computed are passed over.
        statistics: What methods with sidecars find beside the checkpoint.
    """
    found: dict[tuple[object, ...], Task] = {}
    for decision in decisions:
        if decision.action != "compute":
            continue
        task = _task(decision, statistics)
        key = (decision.base, decision.sides, task.choice.method, task.choice.rule_index)
        before = found.get(key)
        names = (decision.name,) if before is None else (*before.names, decision.name)
        found[key] = replace(before or task, names=names)
    return list(found.values())


def single_tasks(plan: Plan, statistics: Statistics) -> list[Task]:
    """Return what is to be computed of a plan, besides the LoRAs that are merged as one."""
    paired = {name for pair in plan.pairs for name in (*pair.names, pair.alpha)}
    return tasks_of((decision for decision in plan.decisions if decision.name not in paired), statistics)


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
    every = side_names(len(decision.sides))
    names = tuple(every[number] for number, _ in values)
    return Task((decision.name,), decision.choice, base, branches, decision.changed_by, names, merged.spec, sidecars)


def digests_of(tasks: Iterable[Task]) -> set[Digest]:
    """Return the digests of all that some tasks read."""
    return {member.digest for task in tasks for member in task.members}
