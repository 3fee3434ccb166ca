"""Group tasks by the scope of their thresholds, and list the values that count for a scope."""

from __future__ import annotations

from collections import defaultdict
from typing import TYPE_CHECKING

from git_theta_ext.merging.planning.plan import scope_of

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from git_theta_ext.merging.execution.tasks import Task
    from git_theta_ext.merging.planning.counted import Changed
    from git_theta_ext.merging.planning.plan import Plan
    from git_theta_ext.model.manifest import Parameter
    from git_theta_ext.model.tensor import TensorSpec


MOST_TOGETHER = 16
"""Scopes that are counted together: the histograms of the second pass take a megabyte for each, and each side."""


def scopes(tasks: Iterable[Task]) -> list[list[Task]]:
    """Group the tasks that trim by the scope of their thresholds; equal methods and options share a scope."""
    groups: dict[tuple[object, ...], list[Task]] = defaultdict(list)
    all_options: dict[int, tuple[object, ...]] = {}
    for task in tasks:
        if not task.method.contract.trims:
            continue
        chosen = task.choice
        if id(chosen) not in all_options:  # most tasks have the same choice
            all_options[id(chosen)] = (chosen.method, tuple(sorted(chosen.options.items())))
        scope, options = scope_of(chosen), all_options[id(chosen)]
        place = {"model": (), "rule": (task.choice.rule_index,)}.get(scope, (task.name,))
        groups[scope, options, place].append(task)
    return list(groups.values())


def counted_together(groups: Sequence[Sequence[Task]]) -> list[list[Sequence[Task]]]:
    """Group scopes whose thresholds are found from the same values: those of the model, for any share to keep."""
    apart = [[tasks] for tasks in groups if scope_of(tasks[0].choice) != "model"]
    model = [tasks for tasks in groups if scope_of(tasks[0].choice) == "model"]
    return apart + [model[start : start + MOST_TOGETHER] for start in range(0, len(model), MOST_TOGETHER)]


def is_exact(tasks: Sequence[Task]) -> bool:
    """Return whether the tasks of a scope keep exactly the share that was asked for."""
    return tasks[0].choice.options["ties"] == "exact"


def counted_for(plan: Plan, tasks: Sequence[Task]) -> Sequence[Changed]:
    """Return the values that the thresholds of a scope are found from, including unchanged ones."""
    if scope_of(tasks[0].choice) == "model":
        return plan.changes
    return [_inputs(task) for task in tasks]


def values_of_scope(plan: Plan, tasks: Sequence[Task]) -> list[Parameter]:
    """Return the values that finding the thresholds of a scope and merging its tasks read."""
    counted = [value for base, values in counted_for(plan, tasks) if values for value in (base, *values.values())]
    return counted + [member for task in tasks for member in task.members]


def changed_specs(change: Changed) -> list[TensorSpec]:
    """Return the specs of the base and of the changed values."""
    base, values = change
    return [base.spec, *(value.spec for value in values.values())]


def _inputs(task: Task) -> Changed:
    assert task.base is not None
    return task.base, dict(zip(task.changed_by, task.branches, strict=True))
