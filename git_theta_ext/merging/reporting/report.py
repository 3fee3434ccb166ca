"""Report the effect of a merge on each parameter that several sides changed."""

from __future__ import annotations

from typing import TYPE_CHECKING

from git_theta_ext.merging.reporting.measures import Measures, MergedVersions, measure
from git_theta_ext.model.conflicts import side_names
from git_theta_ext.model.units import QUANTISED
from git_theta_ext.records import dataclass

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from git_theta_ext.interfaces import Trim
    from git_theta_ext.merging.devices.device import Device
    from git_theta_ext.merging.planning.decision import Decision
    from git_theta_ext.merging.planning.plan import Plan
    from git_theta_ext.model.manifest import Manifest, Parameter
    from git_theta_ext.model.tensor import TensorSpec
    from git_theta_ext.model.units import Unit
    from git_theta_ext.store.store import Store

RESOLVED = "resolved"
"""Used instead of a method for conflicts that were resolved after the merge."""


@dataclass(frozen=True)
class Row:
    """One parameter that several sides changed.

    Attributes:
        name: The parameter.
        spec: Spec of the merged value, or of a version that was merged if it was deleted.
        method: The method by the rules, or the side that is taken.
        state: What the sides did to it.
        sides: Names of the sides that changed it.
        measures: None if the versions cannot be compared: shapes differ, one is deleted, or the type allows no
            arithmetic. Parts of a quantised weight have none.
        unit: The unit that it belongs to, or None.
    """

    name: str
    spec: TensorSpec
    method: str
    state: str
    sides: tuple[str, ...]
    measures: Measures | None
    unit: Unit | None = None


def rows(
    store: Store, device: Device, plan: Plan, merged: Manifest, trims: Mapping[str, tuple[Trim, ...]]
) -> Iterator[Row]:
    """Measure the effect of a merge.

    Args:
        store: Holds all values.
        device: Where to compute.
        plan: The plan of the merge.
        merged: The merged version.
        trims: Parameter to the thresholds of the sides that changed it, from ``Engine.thresholds``.

    Raises:
        MissingError: A value is not in the store.
        CorruptError: A value is damaged.
    """
    decisions = {decision.name: decision for decision in plan.decisions if several(decision)}
    versions = {
        name: _versions(decision, merged.parameters.get(name), trims.get(name, ()))
        for name, decision in decisions.items()
    }
    homes = {name: unit for unit in plan.units for name in unit.members}
    comparable = {
        name: version
        for name, version in versions.items()
        if version is not None and version.comparable and (name not in homes or homes[name].kind != QUANTISED)
    }
    measured = dict(measure(store, device, comparable))
    names = side_names(len(plan.sides))
    for name, decision in decisions.items():
        values = (merged.parameters.get(name), decision.base, *decision.sides)
        spec = next(value.spec for value in values if value is not None)
        method = RESOLVED if decision.action == "conflict" else decision.source or decision.choice.method
        sides = tuple(names[number] for number in decision.changed_by)
        yield Row(name, spec, method, decision.state, sides, measured.get(name), homes.get(name))


def several(decision: Decision) -> bool:
    """Return whether several sides changed a parameter in different ways."""
    return len({decision.sides[number] for number in decision.changed_by}) > 1


def bytes_to_read(plan: Plan) -> int:
    """Return about how many bytes ``rows`` reads."""
    return sum(d.base.spec.nbytes for d in plan.decisions if several(d) and d.base is not None)


def taken(plan: Plan) -> dict[str, int]:
    """Return, for each side, how many parameters were taken from it that no side changed differently."""
    counts: dict[str, int] = {}
    for decision in plan.decisions:
        if decision.source is not None and not decision.unchanged and not several(decision):
            counts[decision.source] = counts.get(decision.source, 0) + 1
    return counts


def _versions(decision: Decision, merged: Parameter | None, trims: tuple[Trim, ...]) -> MergedVersions | None:
    values = tuple(value for number in decision.changed_by if (value := decision.sides[number]) is not None)
    if len(values) < len(decision.changed_by) or merged is None:
        return None
    return MergedVersions(decision.base, values, merged, trims)
