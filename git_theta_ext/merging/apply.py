"""Execute a merge plan: compute values, and compose the layout of the merged file."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from git_theta_ext.merging.execution.engine import Engine
from git_theta_ext.merging.execution.exact import compute as compute_exactly
from git_theta_ext.merging.outcome import Computed, outcome_of
from git_theta_ext.merging.planning.layouts import with_facts_decided, written
from git_theta_ext.merging.planning.plan import UNREAD
from git_theta_ext.merging.planning.whole_layouts import with_whole_layouts
from git_theta_ext.model.conflict_reasons import ConflictCode, Reason
from git_theta_ext.model.conflicts import LayoutConflict
from git_theta_ext.model.manifest import Skeleton
from git_theta_ext.records import replace
from git_theta_ext.registry import find_format
from git_theta_ext.store.batches import Batches
from git_theta_ext.store.skeletons import read_skeleton
from git_theta_ext.util.threads import no_progress

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Mapping

    from git_theta_ext.merging.outcome import MergedLayout, Outcome
    from git_theta_ext.merging.planning.plan import Plan
    from git_theta_ext.model.layout import Layout
    from git_theta_ext.model.tensor import TensorSpec
    from git_theta_ext.store.store import Store
    from git_theta_ext.store.tensor_store import TensorStore

_DEPENDS = Reason.of(ConflictCode.LAYOUT, "depends on the parameters in conflict")
_CANNOT_COMPOSE = Reason.of(ConflictCode.LAYOUT, "no layout for the merged parameters can be composed in this format")


def apply(
    plan: Plan,
    store: Store,
    start: Callable[[], Engine] | None = None,
    advance: Callable[[int], None] = no_progress,
    leave: Collection[str] = (),
) -> Outcome:
    """Execute a plan.

    A parameter whose values are missing, damaged, NaN or infinite becomes a conflict.

    Args:
        plan: The plan.
        store: Holds the tensors; computed ones are written to it and durable on return.
        start: Makes the engine, if a merge method has to be computed; by default one on the CPU.
        advance: Called with the size in bytes of each tensor that is computed without the engine.
        leave: Parameters that are left in conflict as if their values could not be read.

    Raises:
        MissingError: A skeleton is not in the store.
        CorruptError: A skeleton is damaged.
        PluginError: A method or the format is not installed, or a method violates its contract.
        StoreError: The store cannot be written.
    """
    plan = with_facts_decided(with_whole_layouts(plan, store), store)
    computed = compute(plan, store, start, advance, leave)
    return outcome_of(plan, computed, partial(lay_out, plan, store))


def compute(
    plan: Plan,
    store: TensorStore,
    start: Callable[[], Engine] | None = None,
    advance: Callable[[int], None] = no_progress,
    leave: Collection[str] = (),
) -> Computed:
    """Compute the values that a plan asks for, without torch if no merge method is needed; see ``apply``."""
    if leave:
        # Only here: the layout was planned for all parameters, and thresholds count all.
        computed = compute(plan.without(leave), store, start, advance)
        computed.failed.update(dict.fromkeys(leave, UNREAD.text))
        return computed
    if any(decision.action == "compute" for decision in plan.decisions):
        return (start or partial(Engine, store))().compute(plan)
    computed = Computed()
    results = Batches(store)
    compute_exactly(plan.decisions, store, results, computed, advance)  # without loading torch
    results.flush()
    return computed


def compose(
    format_name: str,
    skeleton: Skeleton,
    specs: Mapping[str, TensorSpec],
    store: Store,
    facts: Mapping[str, bytes] | None = None,
) -> Skeleton | None:
    """Compose a layout for some parameters from a skeleton, and store it.

    Args:
        format_name: Name of the format.
        skeleton: Skeleton of a file in this format.
        specs: Name and spec of each parameter.
        store: The store.
        facts: The facts of the new file; None for those of ``skeleton``.

    Returns:
        The new skeleton, or None if the format does not support that.

    Raises:
        MissingError: The skeleton is not in the store.
        CorruptError: It is damaged.
    """
    return compose_from(format_name, read_skeleton(store, skeleton), specs, store, facts)


def compose_from(
    format_name: str,
    layout: Layout,
    specs: Mapping[str, TensorSpec],
    store: Store,
    facts: Mapping[str, bytes] | None = None,
) -> Skeleton | None:
    """Compose a layout for some parameters from another one, and store it; see ``compose``."""
    composed = find_format(format_name).compose(layout, specs)
    if composed is not None:
        composed = replace(composed, packings=layout.packings)
    if composed is not None and facts is not None:
        composed = written(format_name, composed, facts)
    if composed is None:
        return None
    data = composed.to_skeleton()
    made = Skeleton.of(data)
    store.put([(made.spec, made.digest, data)])
    return made


def lay_out(plan: Plan, store: Store, merged: Mapping[str, TensorSpec], structural: bool) -> MergedLayout:  # noqa: FBT001 - called by outcome_of
    """Return the merged file's skeleton, a conflict about it, and a note.

    If conflicts decide which parameters the file will have, and the format cannot compose a layout for them, all
    layouts are kept until the conflicts are resolved.
    """
    layout = plan.layout
    alike = len({side.skeleton for side in plan.sides}) == 1
    if layout.action == "take" and merged == plan.specs and (not structural or alike):
        return layout.skeleton, None, layout.note
    reason = layout.reason
    if reason is None:
        composed = compose(plan.ours.format, layout.skeleton, merged, store, layout.facts)
        if composed is not None:
            taken = layout.action == "take" and merged == plan.specs
            return (layout.skeleton if taken else composed), None, layout.note
        if layout.fallback is not None and not structural:
            return layout.fallback, None, layout.fallback_note
        reason = _DEPENDS if structural else _CANNOT_COMPOSE
    base = None if plan.base is None else plan.base.skeleton
    layout_conflict = LayoutConflict(reason, base, tuple(side.skeleton for side in plan.sides))
    return plan.ours.skeleton, layout_conflict, ""
