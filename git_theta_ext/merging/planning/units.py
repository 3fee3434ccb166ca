"""Decide on units: parameters that only make sense together, such as the factors of an adapter.

All parameters of a unit are taken from the same side, or merged together, or all of them are in conflict.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import TYPE_CHECKING

from git_theta_ext.merging.planning.adapters import alpha_of, lora_pairs, other_adapters
from git_theta_ext.merging.planning.quantised import quantised_units
from git_theta_ext.merging.rules.rules import APPLY
from git_theta_ext.model.conflict_reasons import ConflictCode, Reason
from git_theta_ext.model.conflicts import side_names
from git_theta_ext.registry import find_merge, find_pair

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from git_theta_ext.merging.planning.decision import Decision
    from git_theta_ext.merging.rules.rules import Choice
    from git_theta_ext.model.tensor import TensorSpec

_MATRIX = 2
DEFAULT_PAIR_METHOD = "lora_svd"
_NO_SPECS: Mapping[str, TensorSpec] = MappingProxyType({})


@dataclass(frozen=True)
class PairDecision:
    """A LoRA that several sides changed, and whose factors are merged together.

    Attributes:
        names: Names of ``lora_A`` and ``lora_B``.
        alpha: Name of the tensor with alpha, or None.
        changed_by: Indices of the sides that changed it.
        choice: The choice of the rules; its method merges pairs.
        specs: Name and spec of each merged factor.
        note: A message for the user.
        scales: The scale of each changed side, relative to that of the result; empty if all are 1.
    """

    names: tuple[str, str]
    alpha: str | None
    changed_by: tuple[int, ...]
    choice: Choice
    specs: Mapping[str, TensorSpec]
    note: str = ""
    scales: tuple[float, ...] = ()

    @property
    def members(self) -> tuple[str, ...]:
        """The names of all its parameters."""
        return (*self.names, *([] if self.alpha is None else [self.alpha]))


def decide_units(
    decisions: Mapping[str, Decision], others: Mapping[str, TensorSpec] = _NO_SPECS
) -> tuple[dict[str, Decision], tuple[PairDecision, ...]]:
    """Make the decisions on the parameters of each unit consistent.

    Args:
        decisions: The decision on each parameter by itself, sorted by name.
        others: Parameters without a decision, which may belong to the same units.

    Returns:
        The decisions, and the LoRAs to merge.
    """
    decided = dict(decisions)
    adapted: set[str] = set()
    for what, names in _indivisible(_versions(decisions, others)):
        adapted.update(names)
        members = [decisions[name] for name in names if name in decisions]
        if members and _mixed(members):
            decided.update(_as_one(members, what))
    pairs = []
    for first, second in lora_pairs(decisions):
        alpha = alpha_of(first, decisions)
        members = [decisions[name] for name in (first, second, alpha) if name is not None]
        if first in adapted or not _mixed(members):
            continue
        pair = pair_of(decisions, (first, second), alpha)
        if isinstance(pair, str):
            decided.update(_as_one(members, f"a LoRA ({pair})"))
        else:
            pairs.append(pair)
            joint = [replace(d, action="compute", source=None, into=None, choice=pair.choice) for d in members]
            decided.update({decision.name: decision for decision in joint})
    return decided, tuple(pairs)


def units_of(versions: Mapping[str, Sequence[TensorSpec]]) -> Iterator[tuple[str, list[str]]]:
    """Yield a description of each unit, for people, and the names of its parameters.

    Args:
        versions: Name to the specs of all versions that have the parameter.
    """
    yield from _indivisible(versions)
    for first, second in lora_pairs(versions):
        alpha = alpha_of(first, versions)
        yield "a LoRA", [first, second, *([] if alpha is None else [alpha])]


def _indivisible(versions: Mapping[str, Sequence[TensorSpec]]) -> Iterator[tuple[str, list[str]]]:
    """Yield the units that are never merged by arithmetic."""
    for names in quantised_units(versions):
        yield "a quantised weight", names
    for kind, names in other_adapters(versions):
        yield f"a {kind} adapter, whose factors are not merged one by one,", names


def _versions(decisions: Mapping[str, Decision], others: Mapping[str, TensorSpec]) -> dict[str, list[TensorSpec]]:
    versions = {name: [spec] for name, spec in others.items()}
    for name, decision in decisions.items():
        values = {decision.base, *decision.sides}
        versions[name] = [value.spec for value in values if value is not None]
    return versions


def _mixed(members: Sequence[Decision]) -> bool:
    """Return whether deciding on each parameter by itself would mix the versions of several sides."""
    count = len(members[0].sides)
    if any(decision.source is None for decision in members):
        return True
    results = [decision.candidate(decision.source) for decision in members if decision.source is not None]
    return all([decision.sides[side] for decision in members] != results for side in range(count))


def _as_one(members: Sequence[Decision], what: str) -> dict[str, Decision]:
    """Take all parts from the side that the rules name, or leave the changed ones in conflict."""
    names = side_names(len(members[0].sides))
    methods = {decision.choice.method for decision in members}
    if len(methods) == 1 and methods <= {*names, "base"}:
        return {d.name: replace(d, action="take", source=d.choice.method, into=None) for d in members}
    who = " and ".join(names[n] for n in sorted({n for member in members for n in member.changed_by}))
    reason = Reason.of(ConflictCode.UNIT, f"part of {what} that {who} changed")
    return {d.name: d.in_conflict(reason) for d in members if d.changed_by}


def pair_of(decisions: Mapping[str, Decision], names: tuple[str, str], alpha: str | None) -> PairDecision | str:
    """Return how a LoRA is merged, or why it cannot be merged."""
    a, b = (decisions[name] for name in names)
    choice = a.choice
    if choice.method in (*side_names(len(a.sides)), "base", "theirs", "conflict"):
        return "the rules do not merge it"
    if choice.method == APPLY:
        return "a change to one cannot be applied to another exactly"
    members = [a, b, *([] if alpha is None else [decisions[alpha]])]
    changed_by = tuple(sorted({number for decision in members for number in decision.changed_by}))
    values = [(a.sides[number], b.sides[number]) for number in changed_by]
    note = ""
    if find_merge(choice.method).contract.granularity != "pair":
        if choice.explicit:
            note = f"{names[0]!r}: the factors of a LoRA are merged together, by {DEFAULT_PAIR_METHOD}"
        defaults = {name: option.default for name, option in find_pair(DEFAULT_PAIR_METHOD).contract.options.items()}
        choice = replace(choice, method=DEFAULT_PAIR_METHOD, options=defaults)
    specs = []
    for one, other in values:
        if one is None or other is None:
            return "deleted by one side"
        specs.append((one.spec, other.spec))
    shapes = {(one.shape[1:], other.shape[:1]) for one, other in specs}
    kinds = {spec.dtype.kind if spec.dtype.arithmetic else "" for pair in specs for spec in pair}
    if kinds != {"float"} or any(len(spec.shape) != _MATRIX for pair in specs for spec in pair):
        return "its factors are not float matrices"
    if len(shapes) > 1 or any(one.shape[0] != other.shape[1] for one, other in specs):
        return "the shapes of its factors do not match"
    first, second = specs[0]
    sides = first.shape[1], second.shape[0]
    rank = find_pair(choice.method).rank([one.shape[0] for one, _ in specs], sides, choice.options)
    merged = {
        names[0]: replace(first, shape=(rank, first.shape[1])),
        names[1]: replace(second, shape=(second.shape[0], rank)),
    }
    return PairDecision(names, alpha, changed_by, choice, merged, note)
