"""Find out from types and shapes alone why a parameter that several sides changed cannot be merged by arithmetic."""

from __future__ import annotations

from typing import TYPE_CHECKING

from git_theta_ext.merging.planning.casts import WIDEST
from git_theta_ext.model.conflict_reasons import ConflictCode, Reason
from git_theta_ext.registry import find_merge

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from git_theta_ext.interfaces import MergeContract
    from git_theta_ext.merging.rules.rules import Choice
    from git_theta_ext.model.dtypes import Dtype
    from git_theta_ext.model.manifest import Parameter
    from git_theta_ext.model.tensor import TensorSpec

    Values = Sequence[Parameter | None]

_TWO = 2


def obstacle(base: Parameter | None, values: Values, choice: Choice, changed_by: Sequence[int]) -> Reason | None:
    """Return why a method cannot merge a parameter that several sides changed, or None if it can.

    Args:
        base: The common ancestor's value.
        values: The values of the sides that changed it, two or more.
        choice: The choice of the rules: a method that computes.
        changed_by: Indices of these sides.
    """
    contract, grow = find_merge(choice.method).contract, choice.grow
    present = [value.spec for value in values if value is not None]
    if len(present) < len(values):
        return Reason.of(ConflictCode.DELETED, "deleted by one side and changed by another")
    if len({spec.shape for spec in present}) > 1 and (reason := _growth(base, present, grow=grow)):
        return reason
    weights = [choice.weights[number] for number in changed_by if number < len(choice.weights)]
    return (
        _numeric_obstacle(present, contract)
        or _integer_obstacle(present, contract, choice.options, weights)
        or _lack_of_base(base, present, contract, grow=grow)
    )


def obstacle_to_change(base: Parameter | None, values: Values) -> Reason | None:
    """Return why one side's change cannot be applied to the other side's value, or None if it can."""
    present = [value.spec for value in values if value is not None]
    if len(present) != _TWO or len(present) < len(values):
        return Reason.of(
            ConflictCode.METHOD, f"changed by {len(values)} sides, but a change is applied to one other side"
        )
    if base is None or len({base.spec.shape, *(spec.shape for spec in present)}) > 1:
        return _shapes_differ([*([] if base is None else [base.spec]), *present])
    specs = [base.spec, *present]
    for spec in present:
        if not spec.dtype.arithmetic:
            return _not_arithmetic(spec, "both")
    if len({_numbers(spec) for spec in specs}) > 1 or (
        len({spec.dtype for spec in specs}) > 1 and max(spec.dtype.bits for spec in specs) > WIDEST
    ):
        return _kinds_differ(specs)
    types = new_types(base, values)
    return types_differ(types) if len(types) > 1 else None


def new_types(base: Parameter | None, values: Values) -> set[Dtype]:
    """Return the element types that values have and the base does not."""
    return {value.spec.dtype for value in values if value is not None} - {None if base is None else base.spec.dtype}


def types_differ(types: set[Dtype]) -> Reason:
    """Return the reason not to merge values that sides converted to different element types."""
    names = " and ".join(sorted(kind.name for kind in types))
    return Reason.of(ConflictCode.ELEMENT_TYPE, f"the sides changed the element type to {names}")


def _numeric_obstacle(present: Sequence[TensorSpec], contract: MergeContract) -> Reason | None:
    if contract.granularity == "pair":
        return Reason.of(ConflictCode.METHOD, "the method merges only the two factors of a LoRA")
    for spec in present:
        if not (spec.dtype.arithmetic or (contract.integers and spec.dtype.kind in ("int", "uint", "bool"))):
            return _not_arithmetic(spec, _count(present))
    if len({_numbers(spec) for spec in present}) > 1:
        return _kinds_differ(present)
    if not contract.branches[0] <= len(present) <= contract.branches[1]:
        text = f"changed by {len(present)} sides, but the method merges {_span(contract.branches)}"
        return Reason.of(ConflictCode.METHOD, text)
    return None


def _integer_obstacle(
    present: Sequence[TensorSpec], contract: MergeContract, options: Mapping[str, float | str], weights: Sequence[float]
) -> Reason | None:
    if contract.integer_obstacle is None or _numbers(present[0]) != "int":
        return None
    text = contract.integer_obstacle(options, weights)
    return Reason.of(ConflictCode.METHOD, text) if text else None


def _lack_of_base(
    base: Parameter | None, present: Sequence[TensorSpec], contract: MergeContract, *, grow: bool
) -> Reason | None:
    if contract.needs_base and (base is None or not _alike(base.spec, present, grow=grow)):
        ancestor = "does not have it" if base is None else f"has {base.spec}"
        return Reason.of(ConflictCode.ANCESTOR, f"changed by {_count(present)}, but the common ancestor {ancestor}")
    return None


def _growth(base: Parameter | None, specs: Sequence[TensorSpec], *, grow: bool) -> Reason | None:
    shapes = {spec.shape for spec in specs}
    if not grow or base is None:
        return _shapes_differ(specs)
    common = base.spec.shape
    grown = [shape for shape in shapes if shape != common]
    if len(grown) > 1 or sum(spec.shape != common for spec in specs) > 1:
        return Reason.of(ConflictCode.SHAPE, f"several sides changed the number of rows: {_listed(specs)}")
    if not common or grown[0][1:] != common[1:] or grown[0][0] < common[0]:
        return Reason.of(ConflictCode.SHAPE, f"shapes differ by more than appended rows: {_listed(specs)}")
    return None


def reshaped(base: Parameter, values: Values) -> Reason | None:
    """Return the reason not to merge values whose shape all sides changed alike, or None.

    Rows that each side appended do not correspond to each other.
    """
    present = [value.spec for value in values if value is not None]
    if len({spec.shape for spec in present}) > 1 or present[0].shape == base.spec.shape:
        return None
    text = f"shape changed by {_count(present)}: {base.spec} became {_listed(present)}"
    return Reason.of(ConflictCode.SHAPE, text)


def _shapes_differ(specs: Sequence[TensorSpec]) -> Reason:
    return Reason.of(ConflictCode.SHAPE, f"shapes differ: {_listed(specs)}")


def _kinds_differ(specs: Sequence[TensorSpec]) -> Reason:
    return Reason.of(ConflictCode.ELEMENT_TYPE, f"the sides have different kinds of numbers: {_listed(specs)}")


def _not_arithmetic(spec: TensorSpec, who: str) -> Reason:
    text = f"changed by {who}, and {spec.dtype.name} values are not merged by arithmetic"
    return Reason.of(ConflictCode.ARITHMETIC, text)


def _listed(specs: Sequence[TensorSpec]) -> str:
    return ", ".join(map(str, specs))


def _count(specs: Sequence[TensorSpec]) -> str:
    return "both" if len(specs) == 2 else f"{len(specs)} sides"  # noqa: PLR2004 - ours and theirs


def _span(branches: tuple[int, int]) -> str:
    least, most = branches
    return f"{least}" if least == most else f"{least} to {most}"


def _numbers(spec: TensorSpec) -> str:
    """Return the kind of a type's numbers; all integers are one kind."""
    return {"uint": "int", "bool": "int"}.get(spec.dtype.kind, spec.dtype.kind)


def _alike(base: TensorSpec, specs: Sequence[TensorSpec], *, grow: bool) -> bool:
    same_kind = _numbers(base) == _numbers(specs[0]) and base.dtype.kind != "opaque"
    return same_kind and (grow or base.shape == specs[0].shape)
