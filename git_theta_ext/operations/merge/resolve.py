"""Resolve the conflicts that a merge left in a manifest."""

from __future__ import annotations

from fnmatch import fnmatchcase
from shlex import quote
from typing import TYPE_CHECKING

from git_theta_ext.errors import MergeError, PluginError, UsageError
from git_theta_ext.merging.apply import compute
from git_theta_ext.merging.planning.decision import Decision
from git_theta_ext.merging.planning.layout_decision import LayoutDecision
from git_theta_ext.merging.planning.obstacles import new_types, obstacle, obstacle_to_change
from git_theta_ext.merging.planning.plan import Plan
from git_theta_ext.merging.planning.units import decide_units, units_of
from git_theta_ext.merging.rules.rules import APPLY, DEFAULT_METHOD, GROW, choice
from git_theta_ext.model.conflict_reasons import ConflictCode
from git_theta_ext.model.conflicts import side_names
from git_theta_ext.model.lora_names import lora_pairs
from git_theta_ext.model.manifest import Manifest
from git_theta_ext.model.tensor_pieces import tensor_of
from git_theta_ext.model.units import one_row
from git_theta_ext.operations.merge.conflicted_files import together, with_values
from git_theta_ext.records import replace
from git_theta_ext.registry import find_merge

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterator, Mapping, Sequence

    from git_theta_ext.merging.execution.engine import Engine
    from git_theta_ext.merging.rules.rules import Choice
    from git_theta_ext.model.conflicts import Conflict
    from git_theta_ext.model.manifest import Parameter
    from git_theta_ext.model.tensor import Digest, TensorSpec
    from git_theta_ext.model.units import Unit
    from git_theta_ext.store.store import Store
    from git_theta_ext.store.tensor_store import TensorStore


def resolve(  # noqa: PLR0913 - named, and the last two have defaults
    manifest: Manifest,
    store: Store,
    choice: Choice,
    patterns: Sequence[str] = (),
    start: Callable[[], Engine] | None = None,
    *,
    scaled: Callable[[Plan], Plan] = lambda plan: plan,
    leave: Collection[str] = (),
) -> Manifest:
    """Resolve conflicts of a checkpoint; see ``resolve_together``."""
    (resolved,) = resolve_together([manifest], store, choice, patterns, start, scaled=scaled, leave=leave)
    return resolved


def resolve_together(  # noqa: PLR0913 - named, and the last two have defaults
    manifests: Sequence[Manifest],
    store: Store,
    choice: Choice,
    patterns: Sequence[str] = (),
    start: Callable[[], Engine] | None = None,
    *,
    scaled: Callable[[Plan], Plan] = lambda plan: plan,
    leave: Collection[str] = (),
) -> list[Manifest]:
    """Resolve conflicts of the files of a model by taking a side or by a merge method.

    Thresholds and units are those of all files. Taking a side that lacks the parameter deletes it. A conflict that the
    method cannot resolve stays, unless a pattern names it. Taking a side without patterns also resolves the layout.
    Otherwise the layout is resolved as soon as no parameter is in conflict and exactly one layout fits.

    Args:
        manifests: Manifests with conflicts.
        store: The store with the values; computed values are written to it.
        choice: The side or method.
        patterns: Names or globs (``*``, ``?``, ``[…]``) of parameters, or names of units; empty for all.
        start: Makes the engine that computes; by default one on the CPU.
        scaled: Scales LoRAs by the configuration of their adapter.
        leave: Parameters that are left in conflict as if their values could not be read.

    Returns:
        The manifests with the conflicts that remain.

    Raises:
        UsageError: A pattern matches no conflict, or the method is ``conflict``.
        MergeError: No conflict could be resolved, or one that a pattern names could not.
        MissingError: A layout is not in the store.
        CorruptError: A layout in the store is damaged.
    """
    if choice.method == "conflict":
        raise UsageError("the method 'conflict' resolves nothing", hint="git theta resolve --method=ours")
    whole = together(manifests)
    chosen = [conflict for conflict in _chosen(whole, patterns) if conflict.name not in leave]
    for manifest in manifests:
        _check_whole(manifest, choice.method, patterns)
    values, failed = resolved_values(whole, chosen, choice, store, start, scaled)
    if failed and patterns:
        raise next(iter(failed.values()))
    results = [with_values(manifest, values, store, None if patterns else choice.method) for manifest in manifests]
    if results == list(manifests):
        first = next(iter(failed.values()), None)
        raise first or MergeError(
            f"method {choice.method!r} resolves none of the conflicts",
            hint="git theta resolve --method ours, theirs or base",
        )
    return results


def skeletons_to_read(manifest: Manifest) -> Iterator[Digest]:
    """Yield the digest of every skeleton that resolving a manifest's conflicts may read."""
    yield manifest.skeleton.digest
    layout = manifest.layout_conflict
    if layout is not None:
        yield from (skeleton.digest for skeleton in layout.candidates.values() if skeleton is not None)


def values_to_read(manifest: Manifest, method: str, leave: Collection[str] = ()) -> Iterator[Digest]:
    """Yield the digest of every tensor that resolving a manifest's conflicts may read: none if a side is taken.

    Args:
        manifest: A manifest with conflicts.
        method: The side or method.
        leave: Parameters that are left in conflict.
    """
    if method not in sides_of(manifest):
        for conflict in manifest.conflicts:
            if conflict.name not in leave:
                yield from (side.digest for side in conflict.candidates.values() if side is not None)


def _chosen(manifest: Manifest, patterns: Sequence[str]) -> list[Conflict]:
    if not patterns:
        return list(manifest.conflicts)
    matched: dict[str, Conflict] = {}
    units = conflicted_units(manifest)
    homes = {name: unit.name for unit in units for name in unit.members}
    for pattern in patterns:
        matching = [
            conflict
            for conflict in manifest.conflicts
            for names in [{conflict.name, tensor_of(conflict.name)}]
            if pattern in {*names, homes.get(conflict.name)} or any(fnmatchcase(name, pattern) for name in names)
        ]
        if not matching:
            hint = "git theta resolve PATH lists the conflicts"
            raise UsageError(f"{pattern!r} matches no parameter in conflict", hint=hint)
        matched.update({conflict.name: conflict for conflict in matching})
    return _with_units(manifest, matched, units)


def _with_units(manifest: Manifest, chosen: Mapping[str, Conflict], units: Sequence[Unit]) -> list[Conflict]:
    """Add the conflicts on parameters that belong to the same units, such as the other factor of a LoRA."""
    conflicts = {conflict.name: conflict for conflict in manifest.conflicts}
    with_units = dict(chosen)
    for unit in units:
        if not chosen.keys().isdisjoint(unit.members):
            with_units.update({name: conflicts[name] for name in unit.members if name in conflicts})
    return list(with_units.values())


def conflicted_units(manifest: Manifest) -> list[Unit]:
    """Return the units of which a manifest has parts in conflict."""
    names = {conflict.name for conflict in manifest.conflicts}
    return [unit for unit in units_of(_versions(manifest)) if not names.isdisjoint(unit.members)]


def _versions(manifest: Manifest) -> dict[str, list[TensorSpec | None]]:
    """Return the specs of all versions of all parameters, as far as a manifest has them."""
    count = max((len(conflict.candidates) for conflict in manifest.conflicts), default=1)
    versions: dict[str, list[TensorSpec | None]] = {
        name: [parameter.spec] * count for name, parameter in manifest.parameters.items()
    }
    for conflict in manifest.conflicts:
        versions[conflict.name] = [None if v is None else v.spec for v in conflict.candidates.values()]
    return versions


def _check_whole(manifest: Manifest, method: str, patterns: Sequence[str]) -> None:
    reasons = {conflict.reason for conflict in manifest.conflicts}
    if manifest.layout_conflict is not None:
        reasons.add(manifest.layout_conflict.reason)
    texts = {reason.code: reason.text for reason in reasons}
    if ConflictCode.FORMAT in texts and method != "ours":
        hint = f"git checkout --{method} PATH takes the other file as it is"
        raise MergeError(texts[ConflictCode.FORMAT], hint=hint)
    if ConflictCode.WHOLE_FILE in texts and (patterns or method not in sides_of(manifest)):
        raise MergeError(
            texts[ConflictCode.WHOLE_FILE], hint="git theta resolve --method ours (or theirs, base), without parameters"
        )


def sides_of(manifest: Manifest) -> tuple[str, ...]:
    """Return the names of the sides that a manifest's conflicts can be resolved to."""
    counts = [len(conflict.sides) for conflict in manifest.conflicts]
    counts += [len(manifest.layout_conflict.sides)] if manifest.layout_conflict is not None else []
    return ("base", *side_names(max(counts, default=2)))


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
    decided = decide_units(decisions, _versions(manifest))
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
    hint = f"git theta resolve --param {quote(name)} --method {choices}"
    return MergeError(f"parameter {name!r}: {reason}", hint=hint)
