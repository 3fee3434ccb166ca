"""What a merge did to each parameter that several sides changed: how far they were apart, and what came of it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from git_theta_ext.merging.reporting.measures import Measures, MergedVersions, measure
from git_theta_ext.model.manifest import side_names

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from git_theta_ext.interfaces import Trim
    from git_theta_ext.merging.devices.device import Device
    from git_theta_ext.merging.planning.decision import Decision
    from git_theta_ext.merging.planning.plan import Plan
    from git_theta_ext.model.manifest import Manifest, Parameter
    from git_theta_ext.model.tensor import TensorSpec
    from git_theta_ext.store.store import Store

RESOLVED = "resolved"
"""Stands in the place of a method where a conflict was settled behind the merge."""


@dataclass(frozen=True)
class Row:
    """One parameter that several sides changed.

    Attributes:
        name: The parameter.
        spec: Of what came of it, or of what was merged where it is gone.
        method: What the rules asked for.
        state: What the sides had done to it.
        sides: The names of those that changed it.
        measures: None where the versions cannot be compared: shapes differ, one is gone, or there is no arithmetic.
    """

    name: str
    spec: TensorSpec
    method: str
    state: str
    sides: tuple[str, ...]
    measures: Measures | None


def rows(
    store: Store, device: Device, plan: Plan, merged: Manifest, trims: Mapping[str, tuple[Trim, ...]]
) -> Iterator[Row]:
    """Measure what a merge did.

    Args:
        store: Holds all values.
        device: Where to compute.
        plan: Of the merge.
        merged: What came of it.
        trims: Parameter to the thresholds of the sides that changed it, from ``Engine.thresholds``.

    Raises:
        MissingError: A value is not here.
        CorruptError: A value is damaged.
    """
    decisions = {decision.name: decision for decision in plan.decisions if several(decision)}
    versions = {
        name: _versions(decision, merged.parameters.get(name), trims.get(name, ()))
        for name, decision in decisions.items()
    }
    asked = {name: found for name, found in versions.items() if found is not None and found.comparable}
    measured = dict(measure(store, device, asked))
    names = side_names(len(plan.sides))
    for name, decision in decisions.items():
        values = (merged.parameters.get(name), decision.base, *decision.sides)
        spec = next(value.spec for value in values if value is not None)
        method = RESOLVED if decision.action == "conflict" else decision.choice.method
        sides = tuple(names[number] for number in decision.changed_by)
        yield Row(name, spec, method, decision.state, sides, measured.get(name))


def several(decision: Decision) -> bool:
    """Tell whether several sides changed a parameter, and differently."""
    return len({decision.sides[number] for number in decision.changed_by}) > 1


def bytes_to_read(plan: Plan) -> int:
    """Return the bytes of what ``rows`` reads, about."""
    return sum(d.base.spec.nbytes for d in plan.decisions if several(d) and d.base is not None)


def taken(plan: Plan) -> dict[str, int]:
    """Return by side how many parameters only it changed, or all that changed them in the same way."""
    found: dict[str, int] = {}
    for decision in plan.decisions:
        if decision.source is not None and not decision.unchanged and not several(decision):
            found[decision.source] = found.get(decision.source, 0) + 1
    return found


def _versions(decision: Decision, merged: Parameter | None, trims: tuple[Trim, ...]) -> MergedVersions | None:
    values = tuple(value for number in decision.changed_by if (value := decision.sides[number]) is not None)
    if len(values) < len(decision.changed_by) or merged is None:
        return None
    return MergedVersions(decision.base, values, merged, trims)
