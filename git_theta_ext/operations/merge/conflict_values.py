"""Compute the values to which conflicts are resolved, or say why a method cannot resolve them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from git_theta_ext.errors import MergeError, PluginError
from git_theta_ext.merging.apply import compute
from git_theta_ext.merging.planning.decision import Decision
from git_theta_ext.merging.planning.layout_decision import LayoutDecision
from git_theta_ext.merging.planning.obstacles import new_types, obstacle, obstacle_to_change
from git_theta_ext.merging.planning.plan import Plan
from git_theta_ext.merging.planning.units import decide_units
from git_theta_ext.merging.rules.rules import APPLY, DEFAULT_METHOD, GROW, choice
from git_theta_ext.model.conflict_reasons import ConflictCode
from git_theta_ext.model.lora_names import lora_pairs
from git_theta_ext.model.manifest import Manifest
from git_theta_ext.model.units import one_row
from git_theta_ext.operations.merge.chosen_conflicts import sides_of, specs_of_versions
from git_theta_ext.records import replace
from git_theta_ext.registry import find_merge
from git_theta_ext.util.quoting import shell_word

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from git_theta_ext.merging.execution.engine import Engine
    from git_theta_ext.merging.rules.rules import Choice
    from git_theta_ext.model.conflicts import Conflict
    from git_theta_ext.model.manifest import Parameter
    from git_theta_ext.store.tensor_store import TensorStore


def resolved_values(  # noqa: PLR0913, PLR0917 - as resolve
    manifest: Manifest,
    chosen: Sequence[Conflict],
    choice: Choice,
    store: TensorStore,
    start: Callable[[], Engine] | None = None,
    scaled: Callable[[Plan], Plan] = lambda plan: plan,
) -> tuple[dict[str, Parameter | None], dict[str, MergeError]]:
    """Return the values of the conflicts that can be resolved, and the errors of the others.

    Args:
        manifest: A manifest with conflicts.
        chosen: The conflicts to resolve.
        choice: The side or method.
        store: The store with the values; computed values are written to it.
        start: Makes the engine that computes; by default one on the CPU.
        scaled: Scales LoRAs by the configuration of their adapter.

    Raises:
        PluginError: The method is not installed.
    """
    if choice.method in sides_of(manifest):
        return {conflict.name: conflict.candidates[choice.method] for conflict in chosen}, {}
    plan, failed = _plan_for(manifest, chosen, choice)
    plan = scaled(plan)
    computed = compute(plan, store, start)
    for decision in plan.decisions:
        if decision.name not in computed.values:
            failed[decision.name] = _not_resolved(decision.name, computed.failed.get(decision.name, decision.state))
    return dict(computed.values), failed


def methods_for(manifest: Manifest) -> list[str]:
    """Return the methods that can resolve some of a manifest's conflicts, besides taking a side."""
    codes = {conflict.reason.code for conflict in manifest.conflicts}
    if codes & {ConflictCode.WHOLE_FILE, ConflictCode.FORMAT}:
        return []
    methods: list[str] = []
    covered: set[str] = set()
    for method in (DEFAULT_METHOD, GROW):
        decisions = _plan_for(manifest, manifest.conflicts, choice(method))[0].decisions
        computed = {decision.name for decision in decisions if decision.computed}
        if computed - covered:
            methods.append(method)
        covered |= computed
    return methods


def _plan_for(manifest: Manifest, chosen: Sequence[Conflict], choice: Choice) -> tuple[Plan, dict[str, MergeError]]:
    """Return the plan that resolves conflicts by a method, and the errors of those that it cannot resolve."""
    factors = {name for pair in lora_pairs(conflict.name for conflict in manifest.conflicts) for name in pair}
    try:
        every = [_decision_on(conflict, choice, factor=conflict.name in factors) for conflict in chosen]
    except PluginError as error:
        raise PluginError(error.message, hint=f"{', '.join(sides_of(manifest))} always work; {error.hint}") from error
    decisions = {decision.name: decision for decision in every if decision.computed}
    growing = replace(choice, grow=True)
    failed = {}
    for conflict, decision in zip(chosen, every, strict=True):
        if not decision.computed:
            more = [GROW] if _decision_on(conflict, growing).computed else []
            failed[decision.name] = _not_resolved(decision.name, decision.state, *more)
    decided = decide_units(decisions, specs_of_versions(manifest))
    for name, unit in one_row(decided.units).items():
        if name in failed:
            failed[name] = _not_resolved(name, f"part of a quantised weight ({unit.detail}), which no method merges")
    layout = LayoutDecision("take", manifest.skeleton)
    return Plan(None, _sides(manifest), tuple(decided.decisions.values()), layout, decided.pairs), failed


def _decision_on(conflict: Conflict, choice: Choice, *, factor: bool = False) -> Decision:
    """Decide on a conflict by a method; if the method cannot resolve it, the decision is a conflict with the reason."""
    name, base, sides = conflict.name, conflict.base, conflict.sides
    changed_by = tuple(number for number, side in enumerate(sides) if side != base)
    values = [sides[number] for number in changed_by]
    if choice.method == APPLY:
        reason = obstacle_to_change(base, values)
        into = next(iter(new_types(base, values)), None)
        decision = Decision(name, conflict.reason.text, "apply", None, base, sides, choice, changed_by, into=into)
    else:
        reason = obstacle(base, values, choice, changed_by)
        decision = Decision(name, conflict.reason.text, "compute", None, base, sides, choice, changed_by)
        if factor or find_merge(choice.method).contract.granularity == "pair":
            reason = None  # decided later, for both factors at once
    return decision if reason is None else decision.in_conflict(reason)


def _sides(manifest: Manifest) -> tuple[Manifest, ...]:
    """Return a manifest for each side that has that side's values of the conflicts."""
    count = max((len(conflict.sides) for conflict in manifest.conflicts), default=2)
    parameters_of: list[dict[str, Parameter]] = [{} for _ in range(count)]
    for conflict in manifest.conflicts:
        for side, value in zip(parameters_of, conflict.sides, strict=False):
            if value is not None:
                side[conflict.name] = value
    return tuple(Manifest(manifest.format, manifest.skeleton, parameters) for parameters in parameters_of)


def _not_resolved(name: str, reason: str, *methods: str) -> MergeError:
    choices = f"{', '.join((*methods, 'ours', 'theirs'))} or base"
    hint = f"git theta resolve --param {shell_word(name)} --method {choices}"
    return MergeError(f"parameter {name!r}: {reason}", hint=hint)
