"""List the values that the threshold of a method that trims over the whole model is found from."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

    from git_theta_ext.merging.planning.decision import Decision
    from git_theta_ext.model.manifest import Parameter

    # The common ancestor's value, and the changed values by the index of their side.
    Changed = tuple[Parameter, dict[int, Parameter]]


def counted(decision: Decision) -> list[Parameter]:
    """Return the values that count for a threshold over the whole model: the base, and changed ones of its shape."""
    base = decision.base
    if base is None or not base.spec.dtype.arithmetic:
        return []
    values = [decision.sides[number] for number in decision.changed_by]
    same = [v for v in values if v is not None and v.spec.shape == base.spec.shape and v.spec.dtype.arithmetic]
    return [base, *same] if same else []


def changes_of(decisions: Iterable[Decision]) -> list[Changed]:
    """Return all float parameters of the common ancestor, tied ones once, with the changed values that count."""
    changes: dict[tuple[object, ...], Changed] = {}
    for decision in decisions:
        base = decision.base
        if base is None or base.spec.dtype.kind != "float" or not base.spec.dtype.arithmetic:
            continue
        usable = set(counted(decision)[1:])
        values = {n: value for n in decision.changed_by if (value := decision.sides[n]) in usable and value is not None}
        changes.setdefault((base, decision.sides), (base, values))
    return list(changes.values())
