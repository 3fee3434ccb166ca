"""Plan a merge from the manifests alone: no tensor is read here.

As docs/merging.md describes, a change by one side is taken, changes by several sides are merged by a method if that is
meaningful, and everything else is a conflict.
"""

from __future__ import annotations

from functools import cached_property
from types import MappingProxyType
from typing import TYPE_CHECKING

from git_theta_ext.errors import MergeError
from git_theta_ext.merging.planning.all_sides import with_all_sides
from git_theta_ext.merging.planning.counted import changes_of, counted
from git_theta_ext.merging.planning.counters import for_counters
from git_theta_ext.merging.planning.decision import Decision, decide, decide_disputed
from git_theta_ext.merging.planning.layout_decision import LayoutDecision, decide_layout
from git_theta_ext.merging.planning.renames import follow_renames
from git_theta_ext.merging.planning.units import decide_units
from git_theta_ext.merging.rules.layers import depths
from git_theta_ext.model.conflict_reasons import ConflictCode, Reason
from git_theta_ext.model.conflicts import side_names
from git_theta_ext.model.units import QUANTISED
from git_theta_ext.records import dataclass, replace
from git_theta_ext.registry import find_format, find_merge

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator, Mapping, Sequence

    from git_theta_ext.merging.planning.adapter_scalings import MergedAdapter
    from git_theta_ext.merging.planning.casts import Casts
    from git_theta_ext.merging.planning.counted import Changed
    from git_theta_ext.merging.planning.units import PairDecision
    from git_theta_ext.merging.rules.rules import Choice, Rules
    from git_theta_ext.model.manifest import Manifest
    from git_theta_ext.model.tensor import Digest, TensorSpec
    from git_theta_ext.model.units import Unit

UNREAD = Reason.of(ConflictCode.FAILED, "values could not be read when this merge was first made")
"""The reason why a merge that is repeated leaves a parameter in conflict."""

_FORMATS_DIFFER = Reason.of(ConflictCode.FORMAT, "the sides have different formats")
_WHOLE_FILE = Reason.of(ConflictCode.WHOLE_FILE, "files of this format are merged as a whole")


@dataclass(frozen=True)
class Plan:
    """All decisions of one merge.

    Attributes:
        base: The common ancestor; None if all sides added the file.
        sides: The current branch's version, and those of the branches that are merged.
        decisions: One decision for each parameter, sorted by name.
        layout: The decision on the file's layout.
        pairs: LoRAs whose factors are merged together; the decisions on their parameters are to ``compute``.
        moved: Indices of the sides whose layout has other names for some parameters; -1 for the common ancestor.
        notes: Messages for the user.
        complete: Whether nothing was postponed, that is, left in conflict although the rules merge it.
        unread_types: Parameters in conflict because it is unknown whether a side only changed their element type.
        units: Parameters that belong together.
        adapter: The configuration of the merged adapter, if the merge writes it.
    """

    base: Manifest | None
    sides: tuple[Manifest, ...]
    decisions: tuple[Decision, ...]
    layout: LayoutDecision
    pairs: tuple[PairDecision, ...] = ()
    moved: frozenset[int] = frozenset()
    notes: tuple[str, ...] = ()
    complete: bool = True
    unread_types: tuple[str, ...] = ()
    units: tuple[Unit, ...] = ()
    adapter: MergedAdapter | None = None

    @property
    def ours(self) -> Manifest:
        """The current branch's version."""
        return self.sides[0]

    @property
    def specs(self) -> dict[str, TensorSpec]:
        """Name and spec of every parameter of the merged file; parameters in conflict have our value."""
        return _specs(self.decisions, self.pairs)

    @cached_property
    def changes(self) -> Sequence[Changed]:
        """The values that a threshold over the whole model is found from, including unchanged ones."""
        return changes_of(self.decisions)

    @property
    def takes_all(self) -> bool:
        """Whether the merged manifest follows from those of the sides: every value is taken, and the layout."""
        alike = self.layout.action == "take" and not self.layouts_differ
        return alike and all(decision.action == "take" for decision in self.decisions)

    @property
    def computes_all(self) -> bool:
        """Whether every value is computed, and a layout is taken."""
        return self.layout.action == "take" and all(decision.computed for decision in self.decisions)

    @property
    def layouts_differ(self) -> bool:
        """Whether several sides changed the file's literal bytes, in different ways."""
        before = None if self.base is None else self.base.skeleton
        return len({side.skeleton for side in self.sides} - {before}) > 1

    @property
    def layouts_matter(self) -> bool:
        """Whether the layouts have to be read to decide which metadata the merged file has.

        Metadata may describe quantised weights in conflict, even if only one side changed it.
        """
        if self.layouts_differ:
            return True
        conflicts = {decision.name for decision in self.decisions if decision.action == "conflict"}
        versions = {side.skeleton for side in (*self.sides, *([] if self.base is None else [self.base]))}
        units = (unit for unit in self.units if unit.kind == QUANTISED) if conflicts and len(versions) > 1 else ()
        return any(not conflicts.isdisjoint(unit.members) for unit in units)

    def reads(self) -> Iterator[Digest]:
        """Yield the digest of every tensor and skeleton that executing the plan may read."""
        yield from self.reads_layouts()
        trims = False
        for decision in self.decisions:
            trims = trims or (decision.action == "compute" and scope_of(decision.choice) == "model")
            for parameter in decision.inputs:
                yield parameter.digest
        if trims:
            for decision in self.decisions:
                for parameter in counted(decision):
                    yield parameter.digest

    def reads_layouts(self) -> Iterator[Digest]:
        """Yield the digest of every skeleton that executing the plan may read."""
        if self.layout.action == "compute" or any(decision.action == "conflict" for decision in self.decisions):
            yield self.layout.skeleton.digest
        if self.layouts_matter:
            versions = self.sides if self.base is None else (self.base, *self.sides)
            yield from (version.skeleton.digest for version in versions)

    def postponed(self, reason: Reason, methods: Collection[str] | None = None) -> Plan:
        """Return a plan that leaves in conflict, for a reason, what this plan computes.

        Args:
            reason: Why the parameters are in conflict.
            methods: If given, only what is computed by these methods.
        """

        def is_meant(row: Decision) -> bool:
            return row.computed and (methods is None or (row.action == "compute" and row.choice.method in methods))

        rows = tuple(row.in_conflict(reason) if is_meant(row) else row for row in self.decisions)
        pairs = tuple(pair for pair in self.pairs if methods is not None and pair.choice.method not in methods)
        return replace(self, decisions=rows, pairs=pairs, complete=False)

    def without(self, names: Collection[str]) -> Plan:
        """Return a plan that leaves some parameters in conflict, with the other parameters of their LoRAs."""
        apart = [pair for pair in self.pairs if not set(names).isdisjoint(pair.members)]
        every = set(names).union(*(pair.members for pair in apart))
        rows = tuple(row.in_conflict(UNREAD) if row.name in every else row for row in self.decisions)
        return replace(self, decisions=rows, pairs=tuple(pair for pair in self.pairs if pair not in apart))


def conflicts(plan: Plan) -> int:
    """Return the number of conflicts in a plan, as far as manifests show them."""
    return sum(d.action == "conflict" for d in plan.decisions) + (plan.layout.action == "conflict")


def scope_of(choice: Choice) -> str:
    """Return the scope over which a choice's method trims; empty if it does not trim."""
    contract = find_merge(choice.method).contract
    return str(choice.options["scope"]) if contract.trims else ""


def plan(  # noqa: PLR0913 - named, and the last ones have defaults
    base: Manifest | None,
    sides: Sequence[Manifest],
    rules: Rules,
    *,
    baseless: bool = False,
    casts: Mapping[str, Casts] = MappingProxyType({}),
    mixed: bool = False,
) -> Plan:
    """Plan the merge of several versions of a checkpoint.

    Args:
        base: Their common ancestor; None if all sides added the file. Parameters that differ between several common
            ancestors are in conflict in it.
        sides: The current branch's version, and those of the branches to merge; without conflicts.
        rules: The choices for parameters that several sides changed.
        baseless: Whether methods that need no common ancestor may merge parameters that several sides added.
        casts: Parameter to the sides that only changed its element type.
        mixed: Whether a file may mix versions even if its format says otherwise, because names come from an index.

    Raises:
        MergeError: A rule has weights for another number of sides.
        PluginError: The format is not installed.
    """
    versions = [*([] if base is None else [base]), *sides]
    if len({manifest.format for manifest in versions}) > 1 or not (mixed or find_format(sides[0].format).mergeable):
        return _plan_whole(base, sides, rules)
    followed = follow_renames(base, sides)
    base, sides = followed.base, followed.sides
    versions = [*([] if base is None else [base]), *sides]
    before = {} if base is None else base.parameters
    names = sorted({name for manifest in versions for name in manifest.parameters})
    disputed = {conflict.name for conflict in base.conflicts} if base is not None else set()
    by_name, depth = {}, depths(names)
    for name in names:
        values = [side.parameters.get(name) for side in sides]
        chosen = for_counters(name, values, rules.choose(name, depth(name)))
        if name in disputed:
            by_name[name] = decide_disputed(name, values, chosen)
        else:
            by_name[name] = decide(name, before.get(name), values, chosen, baseless=baseless, casts=casts.get(name))
    if any(choice.every_side for choice in rules.choices):
        by_name = with_all_sides(by_name)
    for decision in by_name.values():
        _check_weights(decision)
    decided = decide_units(by_name)
    rows = tuple(decided.decisions.values())
    layout = decide_layout(base, sides, _specs(rows, decided.pairs), followed.moved)
    if rules.defaults.method in (*side_names(len(sides)), "base"):
        layout = replace(layout, side=rules.defaults.method)
    notes = (*followed.notes, *_out_of_reach(rows))
    unread = tuple(sorted(name for name, cast in casts.items() if cast.unknown))
    return Plan(
        base,
        tuple(sides),
        rows,
        layout,
        decided.pairs,
        followed.moved,
        notes,
        unread_types=unread,
        units=decided.units,
    )


def _out_of_reach(decisions: Sequence[Decision]) -> list[str]:
    """Return a note if options that were asked for do not affect parameters that only one side changed."""
    alone = sum(d.action == "take" and len({d.sides[n] for n in d.changed_by}) == 1 for d in decisions)
    choices = [d.choice for d in decisions if d.action == "compute" and d.choice.explicit]
    methods = sorted({choice.method for choice in choices if choice.options or choice.weights})
    if not alone or not methods:
        return []
    one = "1 parameter changed on one side only and keeps that side's value"
    kept = one if alone == 1 else f"{alone} parameters changed on one side only and keep that side's values"
    reach = "apply only to parameters that several sides changed (with the option sides=all, to every parameter)"
    return [f"{kept}; options and weights of {' and '.join(methods)} {reach}"]


def with_decisions(plan: Plan, decisions: tuple[Decision, ...], pairs: tuple[PairDecision, ...]) -> Plan:
    """Return a plan with other decisions on the same parameters."""
    layout = decide_layout(plan.base, plan.sides, _specs(decisions, pairs), plan.moved)
    return replace(plan, decisions=decisions, pairs=pairs, layout=replace(layout, side=plan.layout.side))


def _check_weights(decision: Decision) -> None:
    weights, sides = decision.choice.weights, len(decision.sides)
    if decision.action == "compute" and weights and len(weights) != sides:
        raise MergeError(
            f"{decision.choice.origin}: {len(weights)} weights, but {decision.name!r} has {sides} sides",
            hint="give one weight for each side, ours first",
        )


def _specs(decisions: Sequence[Decision], pairs: Sequence[PairDecision]) -> dict[str, TensorSpec]:
    specs = {d.name: d.value.spec for d in decisions if d.value is not None}
    return specs | {name: spec for pair in pairs for name, spec in pair.specs.items()}


def _plan_whole(base: Manifest | None, sides: Sequence[Manifest], rules: Rules) -> Plan:
    """Plan the merge of files that cannot be mixed: everything comes from one side."""
    choice = rules.defaults
    names = side_names(len(sides))
    changed = [number for number, side in enumerate(sides) if side != base]
    versions = {**dict(zip(names, sides, strict=True)), **({} if base is None else {"base": base})}
    source: str | None = choice.method if choice.method in versions else None
    if all(sides[number] == sides[changed[0]] for number in changed):
        source = names[changed[0]] if changed else names[0]
    if source is not None:
        taken, every = versions[source], tuple(range(len(sides)))
        rows = [
            Decision(name, f"taken from {source}", "take", names[0], None, (p,) * len(sides), choice, every)
            for name, p in taken.parameters.items()
        ]
        return Plan(base, (taken,) * len(sides), tuple(rows), LayoutDecision("take", taken.skeleton))
    reason = _WHOLE_FILE if len({side.format for side in versions.values()}) == 1 else _FORMATS_DIFFER
    before = {} if base is None else base.parameters
    decisions = []
    for name in sorted({name for side in sides for name in side.parameters}):
        values = tuple(side.parameters.get(name) for side in sides)
        unchanged = Decision(name, "unchanged", "take", names[0], before.get(name), values, choice)
        decisions.append(unchanged if len(set(values)) == 1 else unchanged.in_conflict(reason))
    layout = LayoutDecision("conflict", sides[0].skeleton, note=reason.text, reason=reason)
    return Plan(base, tuple(sides), tuple(decisions), layout)
