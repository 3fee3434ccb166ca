"""Determine which statistics a merge uses, and whether they belong to the merged values."""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING

from git_theta_ext.errors import ThetaError
from git_theta_ext.model.conflicts import side_names
from git_theta_ext.model.layout import Literal
from git_theta_ext.model.manifest import Manifest, values_digest
from git_theta_ext.registry import find_merge
from git_theta_ext.statistics.sidecar import facts_of
from git_theta_ext.store.skeletons import read_skeleton

if TYPE_CHECKING:
    from collections.abc import Mapping

    from git_theta_ext.merging.planning.plan import Plan
    from git_theta_ext.store.store import Store


def needs_statistics(plan: Plan) -> bool:
    """Return whether a method of a plan needs statistics."""
    methods = {decision.choice.method for decision in plan.decisions if decision.action == "compute"}
    return any(find_merge(method).contract.sidecars for method in methods)


def used_statistics(plan: Plan, beside: Mapping[int, Manifest]) -> set[int]:
    """Return the indices of the sides whose statistics a plan's methods use."""
    computed = [decision for decision in plan.decisions if decision.action == "compute"]
    return {n for d in computed if find_merge(d.choice.method).contract.sidecars for n in d.changed_by} & set(beside)


def outdated(store: Store, plan: Plan, beside: Mapping[int, Manifest]) -> list[str]:
    """Return a note for each side whose statistics were collected with other values than it has.

    Args:
        store: The store with the skeletons of the statistics, if they are available.
        plan: The plan of the merge.
        beside: The manifest of the statistics of each side that has some.
    """
    names = side_names(len(plan.sides))
    return [
        f"the statistics of {names[number]} were collected with other values: git theta stats collect"
        for number in sorted(used_statistics(plan, beside))
        if (digest := _values(store, beside[number])) and digest != values_digest(plan.sides[number].parameters)
    ]


def _values(store: Store, statistics: Manifest) -> str:
    """Return the digest of the values that statistics were collected with; empty if it is unknown."""
    with suppress(ThetaError):
        layout = read_skeleton(store, statistics.skeleton, parameters=len(statistics.parameters))
        first = (memoryview(part.data) for part in layout.segments[:1] if isinstance(part, Literal))
        return next((facts_of(header).values for header in first), "")
    return ""
