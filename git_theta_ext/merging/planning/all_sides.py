"""Let rules with ``sides: all`` decide parameters that only some sides changed.

By default a change by one side is taken, and a method merges the sides that changed a parameter, which is what people
expect of git. Papers on merging define methods over all models: a side that did not change a parameter takes part with
the ancestor's value, so that for example a ``lambda`` of 0.3 scales every change.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from git_theta_ext.merging.planning.obstacles import obstacle, reshaped
from git_theta_ext.merging.planning.units import indivisible_units
from git_theta_ext.merging.rules.rules import APPLY, is_fixed
from git_theta_ext.model.conflict_reasons import ConflictCode, Reason
from git_theta_ext.model.conflicts import side_names
from git_theta_ext.records import replace

if TYPE_CHECKING:
    from collections.abc import Mapping

    from git_theta_ext.merging.planning.decision import Decision


def with_all_sides(decisions: Mapping[str, Decision]) -> dict[str, Decision]:
    """Return the decisions on parameters after the rules with ``sides: all``.

    What a method cannot merge is decided as without it: parameters that a side added or deleted, quantised weights,
    other types and shapes, and conversions to another element type.

    Args:
        decisions: The decision on each parameter by itself, by name.
    """
    apart = {name for unit in indivisible_units(decisions) for name in unit.members}
    return {
        name: _widened(decision, computable=name not in apart)
        if decision.choice.every_side and decision.changed_by and decision.action in {"take", "compute"}
        else decision
        for name, decision in decisions.items()
    }


def _widened(decision: Decision, *, computable: bool) -> Decision:
    choice, names = decision.choice, side_names(len(decision.sides))
    if choice.method in (*names, "base"):
        return replace(decision, action="take", source=choice.method, into=None, note="")
    if is_fixed(choice.method):  # conflict, or a side that does not exist
        return decision.in_conflict(Reason.of(ConflictCode.CHANGED, decision.state))
    base, sides = decision.base, decision.sides
    types = {None if value is None else value.spec.dtype for value in (base, *sides)}
    if choice.method == APPLY or not computable or base is None or len(types) > 1:
        return decision
    every = tuple(range(len(sides)))
    if obstacle(base, sides, choice, every) or reshaped(base, sides):
        return decision
    return replace(decision, action="compute", source=None, changed_by=every, note="")
