"""Why a parameter that several sides changed cannot be merged by arithmetic: told from types and shapes alone."""

from __future__ import annotations

from typing import TYPE_CHECKING

from git_theta_ext.merging.planning.casts import WIDEST

if TYPE_CHECKING:
    from collections.abc import Sequence

    from git_theta_ext.interfaces import MergeContract
    from git_theta_ext.model.dtypes import Dtype
    from git_theta_ext.model.manifest import Parameter
    from git_theta_ext.model.tensor import TensorSpec

    Values = Sequence[Parameter | None]

_TWO = 2


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


def obstacle_to_change(base: Parameter | None, values: Values) -> str | None:
    """Return why what one side changed cannot be applied to what the other side has, or None."""
    present = [value.spec for value in values if value is not None]
    if len(present) != _TWO or len(present) < len(values):
        return f"changed by {len(values)} sides, and a change is applied to one other"
    if base is None or len({base.spec.shape, *(spec.shape for spec in present)}) > 1:
        return f"shapes differ: {_listed([*([] if base is None else [base.spec]), *present])}"
    specs = [base.spec, *present]
    for spec in present:
        if not spec.dtype.arithmetic:
            return f"changed by both, and {spec.dtype.name} values are not merged by arithmetic"
    if len({_numbers(spec) for spec in specs}) > 1 or (
        len({spec.dtype for spec in specs}) > 1 and max(spec.dtype.bits for spec in specs) > WIDEST
    ):
        return f"the sides have numbers of different kinds: {_listed(specs)}"
    types = new_types(base, values)
    return types_differ(types) if len(types) > 1 else None


def new_types(base: Parameter | None, values: Values) -> set[Dtype]:
    """Return the element types that values have and the base does not."""
    return {value.spec.dtype for value in values if value is not None} - {None if base is None else base.spec.dtype}


def types_differ(types: set[Dtype]) -> str:
    """Return the reason not to merge what sides converted to different element types."""
    return f"the element type was changed to {' and '.join(sorted(kind.name for kind in types))}"


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


def reshaped(base: Parameter, values: Values) -> str | None:
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
