"""Decide how the contents of a file besides its tensors are merged: metadata, values in a pickle, tokens in a GGUF.

Manifests only show that the literal bytes differ. Usually this means nothing: offsets moved, or a new id was written.
So if several sides changed the layout, the layouts are read and compared by what their format calls facts.
"""

from __future__ import annotations

from types import MappingProxyType
from typing import TYPE_CHECKING

from git_theta_ext.errors import FormatError
from git_theta_ext.merging.planning.fact_owners import fact_owners
from git_theta_ext.model.conflict_reasons import ConflictCode, Reason
from git_theta_ext.model.conflicts import side_names
from git_theta_ext.model.layout import Layout, Literal
from git_theta_ext.records import dataclass, replace
from git_theta_ext.registry import find_format
from git_theta_ext.store.skeletons import read_skeleton
from git_theta_ext.util.text import shortlist

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from git_theta_ext.merging.planning.layout_decision import LayoutDecision
    from git_theta_ext.merging.planning.plan import Plan
    from git_theta_ext.model.manifest import Skeleton
    from git_theta_ext.store.store import Store

    Facts = Mapping[str, bytes]


@dataclass(frozen=True)
class SidesFacts:
    """The facts of each version of a merge, and those of the merged file, if they can be written."""

    before: Facts | None
    sides: Sequence[Facts]
    merged: Facts


def facts_of_sides(plan: Plan, store: Store) -> SidesFacts:
    """Read the facts of each version of a merge.

    Raises:
        MissingError: A skeleton is not in the store.
        CorruptError: One is damaged.
    """
    versions = plan.sides if plan.base is None else (plan.base, *plan.sides)
    kind = plan.ours.format
    facts = {
        skeleton: _facts(kind, read_skeleton(store, skeleton))
        for skeleton in {version.skeleton for version in versions}
    }
    before = None if plan.base is None else facts[plan.base.skeleton]
    sides = [facts[side.skeleton] for side in plan.sides]
    return SidesFacts(before, sides, _merge(before, sides, plan.layout.side).facts)


@dataclass(frozen=True)
class _Merged:
    """The merged facts, the keys that several sides changed to different values, and those of conflicts.

    Keys of conflicts describe quantised weights in conflict: their values have to come from the side of the weight.
    """

    facts: Facts
    clashes: Sequence[str]
    disputed: Sequence[str] = ()


def with_facts_decided(plan: Plan, store: Store) -> Plan:
    """Decide the facts of a merged file.

    Facts that one side changed are taken from this side. If several sides changed a fact differently, our value is
    taken, with a note, in formats whose facts can be written one by one. In other formats the layout is in conflict,
    unless the rules take a side.

    Args:
        plan: The plan of the merge.
        store: Holds the skeletons.

    Raises:
        MissingError: A skeleton is not in the store.
        CorruptError: One is damaged.
    """
    if plan.layout.action == "conflict" or not plan.layouts_matter:
        return plan
    sides = [side.skeleton for side in plan.sides]
    before = None if plan.base is None else plan.base.skeleton
    layouts = {skeleton: read_skeleton(store, skeleton) for skeleton in {*sides, *([] if before is None else [before])}}
    kind = plan.ours.format
    facts = {skeleton: _facts(kind, layout) for skeleton, layout in layouts.items()}
    old = None if before is None else facts[before]
    merged = _merge(old, [facts[side] for side in sides], plan.layout.side, fact_owners(plan))
    return replace(plan, layout=_decided(plan, layouts, facts, merged))


def _decided(
    plan: Plan, layouts: Mapping[Skeleton, Layout], facts: Mapping[Skeleton, Facts], merged: _Merged
) -> LayoutDecision:
    layout = plan.layout
    specs = plan.specs
    fitting = [side.skeleton for side in plan.sides if layouts[side.skeleton].parameters == specs]
    clean = replace(layout, note="", fallback=None, fallback_note="")
    if not merged.disputed and (not merged.clashes or layout.side):
        for skeleton in dict.fromkeys([layout.skeleton, *fitting]):
            if facts[skeleton] == merged.facts and (layout.action == "compute" or skeleton in fitting):
                return replace(clean, skeleton=skeleton, action="take" if skeleton in fitting else "compute")
    start = layouts[layout.skeleton]
    who = "both" if len(plan.sides) == 2 else "several sides"  # noqa: PLR2004 - ours and theirs
    if merged.disputed:
        described = shortlist(map(repr, merged.disputed))
        reason = Reason.of(ConflictCode.METADATA, f"the metadata {described} describes quantised weights in conflict")
        return replace(clean, action="conflict", note=reason.text, reason=reason)
    if written(plan.ours.format, start, merged.facts) is not None:
        kept = layout.side or side_names(len(plan.sides))[0]
        note = (
            f"{who} changed the metadata {shortlist(map(repr, merged.clashes))}, and {kept} is kept"
            if merged.clashes
            else ""
        )
        return replace(clean, action="compute", facts=merged.facts, note=note)
    before = {} if plan.base is None else facts[plan.base.skeleton]
    keys = merged.clashes or [key for key, value in merged.facts.items() if value != before.get(key)]
    reason = Reason.of(
        ConflictCode.METADATA, f"{who} changed the file's contents besides its tensors: {shortlist(map(repr, keys))}"
    )
    return replace(clean, action="conflict", note=reason.text, reason=reason)


def written(kind: str, layout: Layout, facts: Facts) -> Layout | None:
    """Return a layout with other facts, or None if its format does not support that."""
    try:
        made = find_format(kind).with_facts(layout, facts)
    except FormatError:
        return None
    return None if made is None else replace(made, packings=layout.packings)


def _merge(
    before: Facts | None,
    sides: Sequence[Facts],
    preferred: str,
    owners: Mapping[str, str | None] = MappingProxyType({}),
) -> _Merged:
    names = side_names(len(sides))
    merged: dict[str, bytes] = {}
    clashes, disputed = [], []
    for key in dict.fromkeys(key for facts in (*sides, before or {}) for key in facts):
        old = None if before is None else before.get(key)
        values = [facts.get(key) for facts in sides]
        changed = [value for value in values if value != old]
        if changed and key in owners:
            owner = owners[key]
            value = old if owner == "base" else values[names.index(owner or names[0])]
            disputed += [key] if owner is None else []
        elif len(set(changed)) > 1:
            clashes.append(key)
            value = old if preferred == "base" else values[names.index(preferred) if preferred else 0]
        else:
            value = changed[0] if changed else old
        if value is not None:
            merged[key] = value
    return _Merged(merged, clashes, disputed)


def _facts(kind: str, layout: Layout) -> Facts:
    try:
        return find_format(kind).facts(layout)
    except FormatError:
        return {"bytes": b"".join(part.data for part in layout.segments if isinstance(part, Literal))}
