"""Carry out a merge plan: take, compute and lay out, and write what is left undecided into the manifest."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from git_theta_ext.errors import CorruptError, MergeError, MissingError
from git_theta_ext.merge.compute import Source, merge_tensor
from git_theta_ext.merge.plan import inputs
from git_theta_ext.model.layout import Layout
from git_theta_ext.model.manifest import Conflict, LayoutConflict, Manifest, Parameter, Skeleton
from git_theta_ext.model.tensor import skeleton_spec, tensor_digest
from git_theta_ext.registry import find_format, find_merge
from git_theta_ext.store.batches import Batches
from git_theta_ext.store.pool import no_progress

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from git_theta_ext.interfaces import MergeMethod
    from git_theta_ext.merge.plan import Decision, Plan
    from git_theta_ext.model.tensor import TensorSpec
    from git_theta_ext.store.blobs import Store

UNSETTLED = "depends on the parameters in conflict"
CANNOT_LAY_OUT = "files of this format cannot be laid out anew for the merged parameters"


@dataclass(frozen=True)
class Outcome:
    """What a merge came to.

    Attributes:
        manifest: Valid, with a conflict section where something is undecided.
        taken: Number of parameters of which one side's change was taken.
        computed: Number of parameters that the method merged.
        notes: What the user should know.
    """

    manifest: Manifest
    taken: int
    computed: int
    notes: tuple[str, ...] = ()

    @property
    def conflicts(self) -> int:
        """Number of things left undecided."""
        return len(self.manifest.conflicts) + (self.manifest.layout_conflict is not None)


def apply(plan: Plan, store: Store, advance: Callable[[int], None] = no_progress) -> Outcome:
    """Carry out a plan.

    A parameter whose values are missing, damaged, NaN or infinite becomes a conflict with that reason.

    Args:
        plan: What to do.
        store: Holds the tensors; what is computed goes into it, durable on return.
        advance: Told the number of bytes of each parameter computed.

    Raises:
        MissingError: A skeleton that has to be read is not here.
        CorruptError: A skeleton is damaged.
        PluginError: The method or the format is missing or breaks its contract.
        StoreError: The store cannot be written.
    """
    parameters: dict[str, Parameter] = {}
    conflicts: list[Conflict] = []
    notes: list[str] = []
    results = Batches(store)
    taken = computed = 0
    for decision in plan.decisions:
        value = decision.value
        reason = decision.state if decision.action == "conflict" else None
        if decision.action == "compute":
            try:
                value = results.add(_ours(decision).spec, compute(decision, find_merge(plan.method), store))
            except (MergeError, MissingError, CorruptError) as error:
                reason = error.message
            else:
                computed += 1
                notes += [decision.note] if decision.note else []
            advance(_ours(decision).spec.nbytes)
        elif decision.source is not None and decision.state != "unchanged":
            taken += 1
        if reason is not None:
            conflicts.append(Conflict(decision.name, reason, decision.base, decision.ours, decision.theirs))
        if value is not None:
            parameters[decision.name] = value
    results.flush()
    structural = any(_spec(conflict.ours) != _spec(conflict.theirs) for conflict in conflicts)
    skeleton, undecided, note = _lay_out(plan, store, structural=structural)
    notes += [note] if note else []
    manifest = Manifest(plan.ours.format, skeleton, parameters, undecided, tuple(conflicts))
    return Outcome(manifest, taken, computed, tuple(notes))


def compute(decision: Decision, method: MergeMethod, store: Store) -> bytearray:
    """Merge the values of a parameter that both sides changed.

    Returns:
        The bytes, of our element type.

    Raises:
        MergeError: The values cannot be merged.
        MissingError: Values are not in the store.
        CorruptError: Values in the store are damaged.
    """
    read = inputs(decision, method.contract)
    sides = ("base", "ours", "theirs")[-len(read) :]
    sources = [Source(side, p.spec, store.stream(p.digest, p.spec)) for side, p in zip(sides, read, strict=True)]
    base = sources[0] if method.contract.needs_base else None
    return merge_tensor(method, base, sources[-2:])


def compose(format_name: str, skeleton: Skeleton, specs: Mapping[str, TensorSpec], store: Store) -> Skeleton | None:
    """Lay out parameters in the manner of a skeleton, and store the result.

    Returns:
        The new skeleton, or None where the format cannot do that.

    Raises:
        MissingError: The skeleton is not in the store.
        CorruptError: It is damaged.
    """
    layout = Layout.from_skeleton(store.read(skeleton.digest, skeleton_spec(skeleton.nbytes)))
    composed = find_format(format_name).compose(layout, specs)
    if composed is None:
        return None
    data = composed.to_skeleton()
    digest = tensor_digest(skeleton_spec(len(data)), data)
    store.put([(skeleton_spec(len(data)), digest, data)])
    return Skeleton(digest, len(data))


def _ours(decision: Decision) -> Parameter:
    assert decision.ours is not None
    return decision.ours


def _spec(parameter: Parameter | None) -> TensorSpec | None:
    return None if parameter is None else parameter.spec


def _lay_out(plan: Plan, store: Store, *, structural: bool) -> tuple[Skeleton, LayoutConflict | None, str]:
    """Return the merged file's skeleton, what is undecided about it, and a note.

    Where conflicts decide which parameters the file will have, and its format cannot be laid out anew for them, all
    three layouts have to stay at hand until the conflicts are settled.
    """
    layout = plan.layout
    if layout.action == "take" and (not structural or plan.ours.skeleton == plan.theirs.skeleton):
        return layout.skeleton, None, layout.note
    reason = layout.note
    if layout.action != "conflict":
        composed = compose(plan.ours.format, layout.skeleton, plan.specs, store)
        if composed is not None:
            return (layout.skeleton if layout.action == "take" else composed), None, layout.note
        if layout.fallback is not None and not structural:
            return layout.fallback, None, layout.fallback_note
        reason = UNSETTLED if structural else CANNOT_LAY_OUT
    base = None if plan.base is None else plan.base.skeleton
    return plan.ours.skeleton, LayoutConflict(reason, base, plan.ours.skeleton, plan.theirs.skeleton), ""
