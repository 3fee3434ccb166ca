"""Decide on units: parameters that only make sense together, such as the factors of an adapter.

All parameters of a unit are taken from the same side, or merged together, or all of them are in conflict.
"""

from __future__ import annotations

from math import prod
from typing import TYPE_CHECKING

from git_theta_ext.merging.planning.adapters import other_adapters
from git_theta_ext.merging.rules.rules import APPLY
from git_theta_ext.model.conflict_reasons import ConflictCode, Reason
from git_theta_ext.model.conflicts import side_names
from git_theta_ext.model.lora_names import alpha_of, lora_pairs, lora_unit
from git_theta_ext.model.quantised_weights import quantised_weights
from git_theta_ext.model.units import QUANTISED, Unit, common_name
from git_theta_ext.records import dataclass, replace
from git_theta_ext.registry import find_merge, find_pair

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from git_theta_ext.merging.planning.decision import Decision
    from git_theta_ext.merging.rules.rules import Choice
    from git_theta_ext.model.manifest import Manifest, Parameter
    from git_theta_ext.model.tensor import TensorSpec

    Versions = Mapping[str, Sequence[TensorSpec | None]]
    """Name to the specs of all versions, in the same order; None in versions that do not have the parameter."""

_MATRIX = 2
DEFAULT_PAIR_METHOD = "lora_svd"


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

    def inputs(self, sides: Sequence[Manifest]) -> list[Parameter]:
        """Return the stored values that it is merged from, given the versions that are merged."""
        return [sides[number].parameters[name] for number in self.changed_by for name in self.members]


@dataclass(frozen=True)
class DecidedUnits:
    """The decisions on parameters, of which those of a unit are consistent.

    Attributes:
        decisions: Name to decision.
        pairs: The LoRAs to merge.
        units: All units.
    """

    decisions: Mapping[str, Decision]
    pairs: tuple[PairDecision, ...]
    units: tuple[Unit, ...]


def decide_units(decisions: Mapping[str, Decision], versions: Versions | None = None) -> DecidedUnits:
    """Make the decisions on the parameters of each unit consistent.

    Args:
        decisions: The decision on each parameter by itself, sorted by name.
        versions: All parameters, if some have no decision.
    """
    decided = dict(decisions)
    adapted: set[str] = set()
    units = list(_indivisible(_versions(decisions) if versions is None else versions))
    for unit in units:
        adapted.update(unit.members)
        members = [decisions[name] for name in unit.members if name in decisions]
        if members and _mixed(members, unit):
            apart = "" if unit.kind == QUANTISED else ", whose factors are not merged one by one,"
            decided.update(_as_one(members, unit, apart))
    pairs = []
    for first, second in lora_pairs(decisions):
        alpha = alpha_of(first, decisions)
        members = [decisions[name] for name in (first, second, alpha) if name is not None]
        if first in adapted:
            continue
        unit = lora_unit(first, second, decisions)
        units.append(unit)
        if not _mixed(members, unit) or all(_added_differently(member) for member in members[:2]):
            continue
        pair = pair_of(decisions, (first, second), alpha)
        if isinstance(pair, str):
            decided.update(_as_one(members, unit, f" ({pair})"))
        else:
            pairs.append(pair)
            joint = [replace(d, action="compute", source=None, into=None, choice=pair.choice) for d in members]
            decided.update({decision.name: decision for decision in joint})
    return DecidedUnits(decided, tuple(pairs), tuple(units))


def indivisible_units(decisions: Mapping[str, Decision]) -> Iterator[Unit]:
    """Yield the units that are never merged by arithmetic.

    Args:
        decisions: The decision on each parameter, by name.
    """
    return _indivisible(_versions(decisions))


def units_of(versions: Versions) -> Iterator[Unit]:
    """Yield the units among parameters.

    Args:
        versions: All parameters.
    """
    yield from _indivisible(versions)
    for first, second in lora_pairs(versions):
        yield lora_unit(first, second, versions)


def _indivisible(versions: Versions) -> Iterator[Unit]:
    """Yield the units that are never merged by arithmetic."""
    yield from quantised_weights(versions)
    for kind, names in other_adapters(versions):
        yield Unit(common_name(names), f"{kind} adapter", (), tuple(sorted(names)))


def _versions(decisions: Mapping[str, Decision]) -> dict[str, list[TensorSpec | None]]:
    return {
        name: [None if value is None else value.spec for value in (decision.base, *decision.sides)]
        for name, decision in decisions.items()
    }


def _mixed(members: Sequence[Decision], unit: Unit) -> bool:
    """Return whether deciding on each parameter by itself would mix the versions of several sides.

    A part of a quantised weight that is converted to another element type no longer fits the other parts exactly.
    """
    count = len(members[0].sides)
    if any(decision.source is None or (decision.action == "cast" and unit.kind == QUANTISED) for decision in members):
        alone = len(unit.members) == 1 and members[0].action == "conflict" and not _represented_differently(members[0])
        return not alone
    results = [decision.candidate(decision.source) for decision in members if decision.source is not None]
    return all([decision.sides[side] for decision in members] != results for side in range(count))


def _added_differently(decision: Decision) -> bool:
    return decision.reason is not None and decision.reason.code is ConflictCode.ADDED


def _represented_differently(decision: Decision) -> bool:
    return len({value.spec for value in (decision.base, *decision.sides) if value is not None}) > 1


def _as_one(members: Sequence[Decision], unit: Unit, why: str = "") -> dict[str, Decision]:
    """Take all parts from the side that the rules name for some of them, or leave the changed ones in conflict."""
    names = side_names(len(members[0].sides))
    methods = sorted({decision.choice.method for decision in members})
    taken = [method for method in methods if method in (*names, "base")]
    if len(taken) == 1 and "conflict" not in methods:
        note = "" if len(methods) == 1 else f"{taken[0]} is taken for the whole {unit.kind}: a rule names a part of it"
        return {d.name: _taken(d, taken[0], note) for d in members}
    who = " and ".join(names[n] for n in sorted({n for member in members for n in member.changed_by}))
    part = "part of " if len(unit.members) > 1 else ""
    detail = f" ({unit.detail})" if unit.detail else ""
    text = f"{part}a {unit.kind}{why} that {who} changed{detail}"
    named = {decision.choice.method for decision in members if decision.choice.rule_index}
    refused = taken if len(taken) > 1 else sorted(named - {"conflict"})
    if refused:
        text += f"; the rules ({', '.join(refused)}) do not merge it as one"
    reason = Reason.of(ConflictCode.UNIT, text)
    return {d.name: d.in_conflict(reason) for d in members if d.changed_by}


def _taken(decision: Decision, side: str, note: str) -> Decision:
    names = side_names(len(decision.sides))
    by = " and ".join(names[number] for number in decision.changed_by)
    state = f"changed by {by}" if len(decision.changed_by) > 1 else decision.state
    return replace(decision, state=state, action="take", source=side, into=None, note=note, reason=None)


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
    if alpha is not None and any(decisions[alpha].sides[number] is None for number in changed_by):
        return "its alpha is missing on one side"
    note = ""
    if find_merge(choice.method).contract.granularity != "pair":
        if choice.explicit:
            note = f"{names[0]!r}: the factors of a LoRA are merged together, by {DEFAULT_PAIR_METHOD}"
        defaults = {name: option.default for name, option in find_pair(DEFAULT_PAIR_METHOD).contract.options.items()}
        choice = replace(choice, method=DEFAULT_PAIR_METHOD, options=defaults)
    specs = [(one.spec, other.spec) for one, other in values if one is not None and other is not None]
    if len(specs) < len(values):
        return "deleted by one side"
    if reason := _obstacle_to_product(specs):
        return reason
    first, second = specs[0]
    sides = prod(first.shape[1:]), second.shape[0]
    rank = find_pair(choice.method).rank([one.shape[0] for one, _ in specs], sides, choice.options)
    merged = {
        names[0]: replace(first, shape=(rank, *first.shape[1:])),
        names[1]: replace(second, shape=(second.shape[0], rank, *second.shape[2:])),
    }
    return PairDecision(names, alpha, changed_by, choice, merged, note)


def _obstacle_to_product(specs: Sequence[tuple[TensorSpec, TensorSpec]]) -> str:
    """Return why the products of factors cannot be merged; empty if they can."""
    kinds = {spec.dtype.kind if spec.dtype.arithmetic else "" for pair in specs for spec in pair}
    if kinds != {"float"} or not all(_are_matrices(one.shape, other.shape) for one, other in specs):
        return "its factors are not float matrices"
    shapes = {(one.shape[1:], other.shape[:1]) for one, other in specs}
    if len(shapes) > 1 or any(one.shape[0] != other.shape[1] for one, other in specs):
        return "the shapes of its factors do not match"
    return ""


def _are_matrices(first: Sequence[int], second: Sequence[int]) -> bool:
    """Return whether two factors are matrices, or those of a convolution: the second one is 1 x 1."""
    return len(first) == len(second) >= _MATRIX and prod(second[_MATRIX:]) == 1
