"""What becomes of one parameter: decided from the digests of its versions, no tensor is read."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from git_theta_ext.model.manifest import MOST_SIDES, side_names
from git_theta_ext.registry import find_merge

if TYPE_CHECKING:
    from collections.abc import Sequence

    from git_theta_ext.interfaces import MergeContract
    from git_theta_ext.merging.rules import Choice
    from git_theta_ext.model.manifest import Parameter
    from git_theta_ext.model.tensor import TensorSpec

    Values = Sequence[Parameter | None]

Action = Literal["take", "compute", "conflict"]


@dataclass(frozen=True, slots=True)
class Decision:
    """What becomes of one parameter.

    Attributes:
        name: The parameter.
        state: What happened to it, for people.
        action: ``take`` the candidate of ``source`` (which deletes the parameter where that side lacks it),
            ``compute`` it by a merge method, or leave it in ``conflict``.
        source: The side that is taken, None for the other actions.
        base: The common ancestor's value, None where it has none.
        sides: Ours, and those of the branches that are merged into it.
        choice: The rule that asks for the method.
        changers: Numbers of the sides that changed it.
        note: Something the user should know.
    """

    name: str
    state: str
    action: Action
    source: str | None
    base: Parameter | None
    sides: tuple[Parameter | None, ...]
    choice: Choice
    changers: tuple[int, ...] = ()
    note: str = ""

    @property
    def value(self) -> Parameter | None:
        """What stands in the merged manifest; ours, with the digest yet to come, where it is computed."""
        if self.source is None:
            return self.grown if self.action == "compute" else self.sides[0]
        return self.candidate(self.source)

    @property
    def grown(self) -> Parameter | None:
        """The value whose shape a computed parameter has: that with the most rows, or ours."""
        present = [value for value in self.sides if value is not None]
        longest = max(present, key=lambda value: value.spec.shape[:1], default=None)
        ours = self.sides[0]
        return ours if ours is None or longest is None or longest.spec.shape == ours.spec.shape else longest

    def candidate(self, side: str) -> Parameter | None:
        """Return the value of a side by its name."""
        if side == "base":
            return self.base
        return self.sides[side_names(len(self.sides)).index(side)]


def decide(name: str, base: Parameter | None, sides: Values, choice: Choice, *, baseless: bool = False) -> Decision:
    """Decide on one parameter.

    Args:
        name: The parameter.
        base: The common ancestor's value, None where it does not have it.
        sides: Ours, and those of the branches that are merged into it.
        choice: The rule for it.
        baseless: Whether values without a common ancestor may be merged.
    """
    names = side_names(len(sides))
    changers = tuple(number for number, value in enumerate(sides) if value != base)
    fixed = (name, base, tuple(sides), choice, changers)
    if len({sides[number] for number in changers}) <= 1:
        state = _agreed(base, sides, changers, names)
        return _decision(fixed, state, "take", names[changers[0] if changers else 0])
    state = _differing(base, sides, changers, names)
    if choice.method in ("base", *names):
        return _decision(fixed, state, "take", choice.method)
    if choice.method in ("conflict", "theirs", *side_names(MOST_SIDES)):  # there is no such side
        return _decision(fixed, state, "conflict", None)
    values = [sides[number] for number in changers]
    contract = find_merge(choice.method).contract
    lacking = None in values or (base is None and not baseless)
    reason = state if lacking else obstacle(base, values, contract, grow=choice.grow)
    if reason is None and base is not None and not baseless:
        reason = _reshaped(base, values)
    if reason is not None:
        return _decision(fixed, reason, "conflict", None)
    kinds = {value.spec.dtype.name for value in values if value is not None}
    ours = next(value for value in sides if value is not None).spec.dtype.name
    note = f"{name!r}: merged {' and '.join(sorted(kinds - {ours}))} into our {ours}" if kinds - {ours} else ""
    return _decision(fixed, state, "compute", None, note)


_Fixed = tuple[str, "Parameter | None", "tuple[Parameter | None, ...]", "Choice", "tuple[int, ...]"]


def _decision(fixed: _Fixed, state: str, action: Action, source: str | None, note: str = "") -> Decision:
    name, base, sides, choice, changers = fixed
    return Decision(name, state, action, source, base, sides, choice, changers, note)


def _agreed(base: Parameter | None, sides: Values, changers: Sequence[int], names: Sequence[str]) -> str:
    if not changers:
        return "unchanged"
    if len(changers) > 1:
        return "changed identically"
    verb = "added" if base is None else "deleted" if sides[changers[0]] is None else "changed"
    return f"{verb} by {names[changers[0]]}"


def _differing(base: Parameter | None, sides: Values, changers: Sequence[int], names: Sequence[str]) -> str:
    verb = "added" if base is None else "changed"
    gone = [names[number] for number in changers if sides[number] is None]
    there = [names[number] for number in changers if sides[number] is not None]
    if gone:
        parts = {names.index(side): f"deleted by {side}" for side in gone}
        parts |= {names.index(side): f"{verb} by {side}" for side in there}
        return ", ".join(parts[number] for number in sorted(parts))
    who = "both" if len(sides) == 2 else f"{len(there)} of {len(sides)} sides"  # noqa: PLR2004 - ours and theirs
    return f"{verb} by {who}, differently" if base is None else f"{verb} by {who}"


def obstacle(base: Parameter | None, values: Values, contract: MergeContract, *, grow: bool = False) -> str | None:
    """Return why a method cannot settle a parameter that several sides changed, or None.

    Args:
        base: The common ancestor's value.
        values: Those of the sides that changed it, two or more.
        contract: The method's.
        grow: Whether rows that one side appended are no obstacle.
    """
    present = [value.spec for value in values if value is not None]
    if len(present) < len(values):
        return "deleted by one side, changed by another"
    if len({spec.shape for spec in present}) > 1 and (reason := _growth(base, present, grow=grow)):
        return reason
    return _numeric_obstacle(present, contract) or _lack_of_base(base, present, contract, grow=grow)


def _numeric_obstacle(present: Sequence[TensorSpec], contract: MergeContract) -> str | None:
    if contract.granularity == "pair":
        return "only the two factors of a LoRA can be merged by this method"
    for spec in present:
        if not (spec.dtype.arithmetic or (contract.integers and spec.dtype.kind in ("int", "uint", "bool"))):
            return f"changed by {_count(present)}, and {spec.dtype.name} values are not merged by arithmetic"
    if len({_numbers(spec) for spec in present}) > 1:
        return f"the sides have numbers of different kinds: {_listed(present)}"
    if not contract.branches[0] <= len(present) <= contract.branches[1]:
        return f"changed by {len(present)} sides, and the method merges {_span(contract.branches)}"
    return None


def _lack_of_base(
    base: Parameter | None, present: Sequence[TensorSpec], contract: MergeContract, *, grow: bool
) -> str | None:
    if contract.needs_base and (base is None or not _alike(base.spec, present, grow=grow)):
        found = "has no such tensor" if base is None else f"has {base.spec}"
        return f"changed by {_count(present)}, and the common ancestor {found}"
    return None


def _growth(base: Parameter | None, specs: Sequence[TensorSpec], *, grow: bool) -> str | None:
    shapes = {spec.shape for spec in specs}
    if not grow or base is None:
        return f"shapes differ: {_listed(specs)}"
    common = base.spec.shape
    grown = [shape for shape in shapes if shape != common]
    if len(grown) > 1 or sum(spec.shape != common for spec in specs) > 1:
        return f"several sides changed the number of rows: {_listed(specs)}"
    if not common or grown[0][1:] != common[1:] or grown[0][0] < common[0]:
        return f"shapes differ by more than appended rows: {_listed(specs)}"
    return None


def _reshaped(base: Parameter, values: Values) -> str | None:
    """Return why values of one shape are not to be merged unasked: rows that each side appended are not the same."""
    present = [value.spec for value in values if value is not None]
    if len({spec.shape for spec in present}) > 1 or present[0].shape == base.spec.shape:
        return None
    return f"shape changed by {_count(present)}: {base.spec} became {_listed(present)}"


def _listed(specs: Sequence[TensorSpec]) -> str:
    return ", ".join(map(str, specs))


def _count(specs: Sequence[TensorSpec]) -> str:
    return "both" if len(specs) == 2 else f"{len(specs)} sides"  # noqa: PLR2004 - ours and theirs


def _span(branches: tuple[int, int]) -> str:
    least, most = branches
    return f"{least}" if least == most else f"{least} to {most}"


def _numbers(spec: TensorSpec) -> str:
    """Return the kind of a type's numbers, all integers being one."""
    return {"uint": "int", "bool": "int"}.get(spec.dtype.kind, spec.dtype.kind)


def _alike(base: TensorSpec, specs: Sequence[TensorSpec], *, grow: bool) -> bool:
    same_kind = _numbers(base) == _numbers(specs[0]) and base.dtype.kind != "opaque"
    return same_kind and (grow or base.shape == specs[0].shape)
