"""Determine which statistics a merge uses, and whether they belong to the merged values."""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING

from git_theta_ext.errors import ThetaError
from git_theta_ext.model.conflict_reasons import ConflictCode, Reason
from git_theta_ext.model.conflicts import side_names
from git_theta_ext.model.layout import Literal
from git_theta_ext.model.manifest import Manifest, values_digest
from git_theta_ext.records import replace
from git_theta_ext.registry import find_merge
from git_theta_ext.statistics.sidecar import facts_of
from git_theta_ext.store.skeletons import read_skeleton

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping

    from git_theta_ext.merging.planning.decision import Decision
    from git_theta_ext.merging.planning.plan import Plan
    from git_theta_ext.store.store import Store

_COLLECT = "git theta stats collect CHECKPOINT --with MODULE:FUNCTION"


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


def with_absent_statistics(plan: Plan, beside: Mapping[int, Manifest]) -> Plan:
    """Return a plan that shows what happens to parameters whose statistics are absent: a conflict, or a note.

    Args:
        plan: The plan of the merge.
        beside: The manifest of the statistics of each side that has some.
    """
    rows = tuple(_with_absent_statistics(row, beside) for row in plan.decisions)
    computed = [row for row in plan.decisions if row.action == "compute"]
    sides = {n for row in computed if find_merge(row.choice.method).contract.sidecars for n in row.changed_by}
    names = side_names(len(plan.sides))
    notes = [
        f"{names[number]} has no statistics beside the checkpoint: {_COLLECT}"
        for number in sorted(sides.difference(beside))
    ]
    return replace(plan, decisions=rows, notes=(*plan.notes, *notes))


def _with_absent_statistics(row: Decision, beside: Mapping[int, Manifest]) -> Decision:
    contract = find_merge(row.choice.method).contract if row.action == "compute" else None
    if contract is None or not contract.needs_sidecars:
        return row
    for kind in contract.sidecars:
        if any(f"{kind}/{row.name}" not in _names(beside.get(number)) for number in row.changed_by):
            text = f"not every side has {kind} statistics of this parameter"
            return row.in_conflict(Reason.of(ConflictCode.FAILED, text))
    return row


def _names(statistics: Manifest | None) -> Collection[str]:
    return () if statistics is None else statistics.parameters


def _values(store: Store, statistics: Manifest) -> str:
    """Return the digest of the values that statistics were collected with; empty if it is unknown."""
    with suppress(ThetaError):
        layout = read_skeleton(store, statistics.skeleton, parameters=len(statistics.parameters))
        first = (memoryview(part.data) for part in layout.segments[:1] if isinstance(part, Literal))
        return next((facts_of(header).values for header in first), "")
    return ""
