"""Decide which parameters a file has if its format cannot compose a layout for every combination of them.

In torch files and ``.npz``, the merged file has the layout of one side, and so the parameters of this side. What each
side deleted or added cannot be taken by itself then, as it is in other formats.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from git_theta_ext.merging.outcome import is_structural
from git_theta_ext.merging.planning.plan import with_decisions
from git_theta_ext.model.conflict_reasons import ConflictCode, Reason
from git_theta_ext.model.conflicts import side_names
from git_theta_ext.records import replace
from git_theta_ext.registry import find_format
from git_theta_ext.store.skeletons import read_skeleton

if TYPE_CHECKING:
    from git_theta_ext.merging.planning.decision import Decision
    from git_theta_ext.merging.planning.plan import Plan
    from git_theta_ext.store.store import Store


def with_whole_layouts(plan: Plan, store: Store) -> Plan:
    """Leave in conflict which parameters a file has, if no layout can be composed for what is taken from several sides.

    All of them are resolved to one side together, whose layout fits then. A rule that names a side decides, too.

    Args:
        plan: The plan of the merge.
        store: Holds the skeletons.

    Raises:
        MissingError: A skeleton is not in the store.
        CorruptError: One is damaged.
    """
    if plan.moved or not _needs_new_layout(plan):
        return plan
    rows = tuple(map(_of_one_side, plan.decisions))
    if rows == plan.decisions:
        return plan
    layout = read_skeleton(store, plan.layout.skeleton)
    if find_format(plan.ours.format).compose(layout, plan.specs) is not None:
        return plan
    return with_decisions(plan, rows, plan.pairs)


def _needs_new_layout(plan: Plan) -> bool:
    if is_structural(decision for decision in plan.decisions if decision.action == "conflict"):
        return True
    return plan.layout.action == "compute" and plan.layout.fallback is None


def _of_one_side(decision: Decision) -> Decision:
    if decision.action != "take" or len({None if side is None else side.spec for side in decision.sides}) == 1:
        return decision
    if decision.choice.method in {"base", *side_names(len(decision.sides))}:
        return replace(decision, source=decision.choice.method)
    reason = Reason.of(ConflictCode.LAYOUT, f"{decision.state}, but the layout is that of one side")
    return decision.in_conflict(reason)
