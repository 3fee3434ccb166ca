"""Carry out a merge plan: take, compute and lay out, and write what is left undecided into the manifest."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

from git_theta_ext.merging.execution.engine import Computed, Engine
from git_theta_ext.merging.execution.exact import compute as compute_exactly
from git_theta_ext.merging.planning.layouts import with_facts_decided, written
from git_theta_ext.model.conflict_reasons import ConflictCode, Reason
from git_theta_ext.model.manifest import Conflict, LayoutConflict, Manifest, Parameter, Skeleton
from git_theta_ext.registry import find_format
from git_theta_ext.store.batches import Batches
from git_theta_ext.store.skeletons import read_skeleton
from git_theta_ext.util.text import shortlist
from git_theta_ext.util.threads import no_progress

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from git_theta_ext.merging.planning.plan import Plan
    from git_theta_ext.model.tensor import TensorSpec
    from git_theta_ext.store.store import Store
    from git_theta_ext.store.tensor_store import TensorStore

_DEPENDS = Reason.of(ConflictCode.LAYOUT, "depends on the parameters in conflict")
_CANNOT_COMPOSE = Reason.of(ConflictCode.LAYOUT, "no layout for the merged parameters can be composed in this format")


@dataclass(frozen=True)
class Outcome:
    """What a merge came to.

    Attributes:
        manifest: Valid, with a conflict section where something is undecided.
        taken: Number of parameters of which one side's change was taken.
        computed: Method to the number of parameters that it merged.
        notes: What the user should know.
        resumed: Number of tensors that an earlier run had computed.
    """

    manifest: Manifest
    taken: int
    computed: Mapping[str, int]
    notes: tuple[str, ...] = ()
    resumed: int = 0

    @property
    def conflicts(self) -> int:
        """Number of things left undecided."""
        return len(self.manifest.conflicts) + (self.manifest.layout_conflict is not None)


def apply(
    plan: Plan,
    store: Store,
    start: Callable[[], Engine] | None = None,
    advance: Callable[[int], None] = no_progress,
) -> Outcome:
    """Carry out a plan.

    A parameter whose values are missing, damaged, NaN or infinite becomes a conflict with that reason.

    Args:
        plan: What to do.
        store: Holds the tensors; what is computed goes into it, durable on return.
        start: Makes the engine, if a merge method has to compute something; one on the processor if left out.
        advance: Told the number of bytes of each tensor that is done without the engine.

    Raises:
        MissingError: A skeleton that has to be read is not here.
        CorruptError: A skeleton is damaged.
        PluginError: A method or the format is missing or breaks its contract.
        StoreError: The store cannot be written.
    """
    plan = with_facts_decided(plan, store)
    found = compute(plan, store, start, advance)
    parameters: dict[str, Parameter] = {}
    conflicts: list[Conflict] = []
    notes: dict[str, list[str]] = {}
    counts: dict[str, int] = {}
    taken = 0
    for decision in plan.decisions:
        value = decision.value
        reason = decision.reason
        if decision.name in found.failed:
            reason = Reason.of(ConflictCode.FAILED, found.failed[decision.name])
        if decision.name in found.values:
            value = found.values[decision.name]
            taken += decision.action == "cast"
            if decision.action != "cast":
                counts[decision.choice.method] = counts.get(decision.choice.method, 0) + 1
        elif reason is not None:
            value = decision.sides[0]
            conflicts.append(Conflict(decision.name, reason, decision.base, decision.sides))
        elif not decision.unchanged:
            taken += 1
        if value is not None:
            parameters[decision.name] = value
        if decision.note and reason is None:
            notes.setdefault(decision.note, []).append(decision.name)
    structural = any(len({_spec(side) for side in conflict.sides}) > 1 for conflict in conflicts)
    merged = {name: parameter.spec for name, parameter in parameters.items()}
    skeleton, undecided, note = _lay_out(plan, store, merged, structural=structural)
    told = (*plan.notes, *found.notes, *_folded(notes), *([note] if note else []))
    manifest = Manifest(plan.ours.format, skeleton, parameters, undecided, tuple(conflicts))
    return Outcome(manifest, taken, counts, told, found.resumed)


def _folded(notes: Mapping[str, Sequence[str]]) -> list[str]:
    """Return one line for each note, whatever the number of parameters that it is about."""
    return [f"{shortlist(map(repr, names), 1)}: {note}" for note, names in notes.items()]


def compute(
    plan: Plan,
    store: TensorStore,
    start: Callable[[], Engine] | None = None,
    advance: Callable[[int], None] = no_progress,
) -> Computed:
    """Compute what a plan asks for, without torch if no merge method is involved; see ``apply``."""
    if any(decision.action == "compute" for decision in plan.decisions):
        return (start or partial(Engine, store))().compute(plan)
    found = Computed()
    results = Batches(store)
    compute_exactly(plan.decisions, store, results, found, advance)  # without loading torch
    results.flush()
    return found


def compose(
    format_name: str,
    skeleton: Skeleton,
    specs: Mapping[str, TensorSpec],
    store: Store,
    facts: Mapping[str, bytes] | None = None,
) -> Skeleton | None:
    """Lay out parameters in the manner of a skeleton, and store the result.

    Args:
        format_name: Name of the format.
        skeleton: Of a file in it.
        specs: Of the parameters.
        store: Where to.
        facts: What the file is to say besides, None where it is what ``skeleton`` says.

    Returns:
        The new skeleton, or None where the format cannot do that.

    Raises:
        MissingError: The skeleton is not in the store.
        CorruptError: It is damaged.
    """
    layout = read_skeleton(store, skeleton)
    composed = find_format(format_name).compose(layout, specs)
    if composed is not None and facts is not None:
        composed = written(format_name, composed, facts)
    if composed is None:
        return None
    data = composed.to_skeleton()
    made = Skeleton.of(data)
    store.put([(made.spec, made.digest, data)])
    return made


def _spec(parameter: Parameter | None) -> TensorSpec | None:
    return None if parameter is None else parameter.spec


def _lay_out(
    plan: Plan, store: Store, merged: Mapping[str, TensorSpec], *, structural: bool
) -> tuple[Skeleton, LayoutConflict | None, str]:
    """Return the merged file's skeleton, what is undecided about it, and a note.

    Where conflicts decide which parameters the file will have, and its format cannot be laid out anew for them, all
    layouts have to stay at hand until the conflicts are settled.
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
    undecided = LayoutConflict(reason, base, tuple(side.skeleton for side in plan.sides))
    return plan.ours.skeleton, undecided, ""
