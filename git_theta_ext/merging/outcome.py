"""Make the merged manifest of the decisions of a plan and the values that were computed; nothing is read here."""

from __future__ import annotations

from typing import TYPE_CHECKING

from git_theta_ext.model.conflict_reasons import ConflictCode, Reason
from git_theta_ext.model.conflicts import Conflict
from git_theta_ext.model.manifest import Manifest
from git_theta_ext.records import dataclass, field
from git_theta_ext.util.text import shortlist

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

    from git_theta_ext.merging.planning.decision import Decision
    from git_theta_ext.merging.planning.plan import Plan
    from git_theta_ext.model.conflicts import LayoutConflict
    from git_theta_ext.model.manifest import Parameter, Skeleton
    from git_theta_ext.model.tensor import TensorSpec

    MergedLayout = tuple[Skeleton, LayoutConflict | None, str]
    """The merged file's skeleton, a conflict about it, and a note for the user."""


@dataclass
class Computed:
    """The results of a merge's computations.

    Attributes:
        values: Parameter to its merged value.
        failed: Parameter to the reason why it could not be merged.
        notes: Messages for the user.
        resumed: Number of results that an earlier, interrupted run had stored.
        moved: What happened to a device, such as that it ran out of memory, to the parameters that the CPU merged then.
    """

    values: dict[str, Parameter] = field(default_factory=dict)
    failed: dict[str, str] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)
    resumed: int = 0
    moved: dict[str, list[str]] = field(default_factory=dict)

    def moved_notes(self) -> list[str]:
        """Return a note for each failure of a device."""
        return [
            f"{failure}: merged {shortlist(map(repr, names), 1)} on the CPU" for failure, names in self.moved.items()
        ]


@dataclass(frozen=True)
class Outcome:
    """The result of a merge.

    Attributes:
        manifest: A valid manifest, with a section for conflicts if there are any.
        taken: Number of parameters that were taken from a side that changed them.
        computed: Method to the number of parameters that it merged.
        notes: Messages for the user.
        resumed: Number of tensors that an earlier, interrupted run had computed.
        failed: Parameters whose computation failed, sorted.
        unread: The same if a value that the merge reads is missing or damaged, else none.
    """

    manifest: Manifest
    taken: int
    computed: Mapping[str, int]
    notes: tuple[str, ...] = ()
    resumed: int = 0
    failed: tuple[str, ...] = ()
    unread: tuple[str, ...] = ()

    @property
    def conflicts(self) -> int:
        """Number of conflicts."""
        return len(self.manifest.conflicts) + (self.manifest.layout_conflict is not None)


def taken(plan: Plan) -> Outcome:
    """Return the result of a plan that takes every value and the layout."""
    return outcome_of(plan, Computed(), lambda *_: (plan.layout.skeleton, None, plan.layout.note))


def outcome_of(
    plan: Plan, computed: Computed, lay_out: Callable[[Mapping[str, TensorSpec], bool], MergedLayout]
) -> Outcome:
    """Return the result of a merge.

    Args:
        plan: The plan.
        computed: The values that the plan asks for.
        lay_out: Returns the layout, given the parameters of the merged file, and whether a conflict is about which
            parameters these are.
    """
    parameters: dict[str, Parameter] = {}
    conflicts: list[Conflict] = []
    notes: dict[str, list[str]] = {}
    computed_by: dict[str, int] = {}
    taken = 0
    for decision in plan.decisions:
        value = decision.value
        reason = decision.reason
        if decision.name in computed.failed:
            reason = Reason.of(ConflictCode.FAILED, computed.failed[decision.name])
        if decision.name in computed.values:
            value = computed.values[decision.name]
            taken += decision.action == "cast"
            if decision.action != "cast":
                computed_by[decision.choice.method] = computed_by.get(decision.choice.method, 0) + 1
        elif reason is not None:
            value = decision.sides[0]
            conflicts.append(Conflict(decision.name, reason, decision.base, decision.sides))
        elif not decision.unchanged:
            taken += 1
        if value is not None:
            parameters[decision.name] = value
        if decision.note and reason is None:
            notes.setdefault(decision.note, []).append(decision.name)
    merged = {name: parameter.spec for name, parameter in parameters.items()}
    skeleton, layout_conflict, note = lay_out(merged, is_structural(conflicts))
    all_notes = (*plan.notes, *computed.notes, *_folded(notes), *([note] if note else []))
    manifest = Manifest(plan.ours.format, skeleton, parameters, layout_conflict, tuple(conflicts))
    return Outcome(manifest, taken, computed_by, all_notes, computed.resumed, tuple(sorted(computed.failed)))


def is_structural(conflicts: Iterable[Conflict | Decision]) -> bool:
    """Return whether some conflicts decide which parameters the file will have, or of which shapes and types."""
    return any(len({_spec(side) for side in conflict.sides}) > 1 for conflict in conflicts)


def _folded(notes: Mapping[str, Sequence[str]]) -> list[str]:
    """Return one line for each note, for any number of parameters."""
    return [f"{shortlist(map(repr, names), 1)}: {note}" for note, names in notes.items()]


def _spec(parameter: Parameter | None) -> TensorSpec | None:
    return None if parameter is None else parameter.spec
