"""A merge plan as text and JSON."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from git_theta_ext.comparison.fitting import fitted
from git_theta_ext.comparison.group import Item, by_unit, fold
from git_theta_ext.comparison.words import human_bytes, plural
from git_theta_ext.merging.planning.plan import conflicts
from git_theta_ext.operations.merge.computation import announcement
from git_theta_ext.util.quoting import shown_path

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from git_theta_ext.merging.planning.decision import Decision
    from git_theta_ext.model.tensor import TensorSpec
    from git_theta_ext.model.units import Unit
    from git_theta_ext.operations.merge.preview import MergePreview

_MOST_ROWS = 40
_INDENT = 4


def to_json(path: str, preview: MergePreview) -> dict[str, Any]:
    """Describe a plan in types that ``json.dumps`` accepts; ``reads`` and ``memory`` are bytes."""
    plan, peaks = preview.plan, [] if preview.budget is None else preview.budget.peaks
    homes = {name: unit.name for unit in plan.units for name in unit.members}
    unchanged = {decision.name for decision in plan.decisions if decision.unchanged}
    return {
        "path": path,
        "sides": len(plan.sides),
        "parameters": [_parameter(decision, homes.get(decision.name)) for decision in plan.decisions],
        "units": [unit.to_dict() for unit in plan.units if not unchanged.issuperset(unit.members)],
        "layout": {"action": plan.layout.action, "note": plan.layout.note},
        "reads": sum(map(_reads, plan.decisions)),
        "devices": [{"name": name, "memory": nbytes} for name, nbytes in peaks],
        "conflicts": conflicts(plan),
    }


def lines(path: str, preview: MergePreview) -> Iterator[str]:
    """Describe a plan as text; parameters whose names differ only in numbers share a row."""
    plan = preview.plan
    groups: dict[str, list[Decision]] = {}
    for decision in plan.decisions:
        groups.setdefault(_heading(decision), []).append(decision)
    unchanged = groups.pop("", [])
    count = f"{plural(len(plan.decisions), 'parameter')} of {len(plan.sides)} sides"
    yield f"{shown_path(path)}: {count}, {len(unchanged)} unchanged"
    if preview.budget is not None:
        yield from (f"  {line}" for line in announcement(preview.budget))
    for heading, decisions in sorted(groups.items()):
        yield f"  {heading}: {plural(len(decisions), 'parameter')}"
        yield from _rows(decisions, plan.units)
    yield from (f"  {note}" for note in (*plan.notes, plan.layout.note) if note)


def _rows(decisions: Sequence[Decision], units: Sequence[Unit]) -> Iterator[str]:
    reads = {decision.name: _reads(decision) for decision in decisions}
    items = [Item(d.state, d.name, str(_spec(d) or "")) for d in decisions]
    rows = fold(by_unit(items, units, _joint_state), _MOST_ROWS)
    cells = []
    for row in rows:
        read = sum(reads[name] for item in row.items for name in item.names)
        cells.append([row.label, row.spec, row.items[0].sign + (f", {human_bytes(read)} to read" if read else "")])
    yield from fitted(cells, indent=_INDENT)


def _joint_state(states: Sequence[str]) -> str:
    """Return the state of a unit of which parts were added, changed or deleted."""
    sides = {state.partition(" by ")[2] for state in states}
    return f"changed by {min(sides)}" if len(sides) == 1 and all(sides) else ", ".join(states)


def _heading(decision: Decision) -> str:
    if decision.unchanged:
        return ""
    if decision.action == "compute":
        return f"merged by {decision.choice.words} ({decision.choice.origin})"
    if decision.action == "apply":
        return f"changes of theirs applied to ours ({decision.choice.origin})"
    if decision.action == "cast" and decision.into is not None:
        return f"taken from {decision.source}, as {decision.into.name}"
    return "in conflict" if decision.action == "conflict" else f"taken from {decision.source}"


def _parameter(decision: Decision, unit: str | None) -> dict[str, Any]:
    spec = _spec(decision)
    row: dict[str, Any] = {"name": decision.name, "state": decision.state, "action": decision.action}
    row |= {"unit": unit} if unit else {}
    row |= {"dtype": spec.dtype.name, "shape": list(spec.shape)} if spec else {}
    row |= {"source": decision.source} if decision.source else {}
    row |= {"code": decision.reason.code.value} if decision.reason else {}
    if decision.action == "compute":
        choice = decision.choice
        row |= {"method": choice.method, "options": dict(choice.options), "weights": list(choice.weights)}
        row |= {"rule": choice.origin, "grow": choice.grow, "sides": "all" if choice.every_side else "changed"}
    return row | {"reads": _reads(decision)}


def _spec(decision: Decision) -> TensorSpec | None:
    value = decision.value or next(filter(None, (decision.base, *decision.sides)), None)
    return None if value is None else value.spec


def _reads(decision: Decision) -> int:
    return sum(parameter.spec.nbytes for parameter in decision.inputs)
