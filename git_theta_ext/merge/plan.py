"""Decide what becomes of every parameter in a three-way merge, from the manifests alone: no tensor is read.

The states and their defaults are those of docs/merging.md: what one side changed is taken, what both changed goes
through the merge method where that means something, and all else is a conflict.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from git_theta_ext.registry import find_format, find_merge

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from git_theta_ext.interfaces import MergeContract
    from git_theta_ext.model.manifest import Manifest, Parameter, Skeleton
    from git_theta_ext.model.tensor import Digest, TensorSpec

Side = Literal["base", "ours", "theirs"]
Action = Literal["take", "compute", "conflict"]

FIXED_METHODS = ("ours", "theirs", "base", "conflict")
"""The methods that need no arithmetic and no plug-in."""

SIDES: Mapping[str, Side] = {"ours": "ours", "theirs": "theirs", "base": "base"}
"""The methods that take one side's value."""

FORMATS_DIFFER = "the two sides have different formats"
WHOLE_FILE = "files of this format are merged as a whole"


@dataclass(frozen=True, slots=True)
class Decision:
    """What becomes of one parameter.

    Attributes:
        name: The parameter.
        state: What happened to it, for people.
        action: ``take`` the candidate of ``source`` (which deletes the parameter where that side lacks it),
            ``compute`` it by the merge method, or leave it in ``conflict``.
        source: The side that is taken, None for the other actions.
        base: The common ancestor's value, None where it has none.
        ours: As ``base``, of the current branch.
        theirs: As ``base``, of the other branch.
        note: Something the user should know.
    """

    name: str
    state: str
    action: Action
    source: Side | None
    base: Parameter | None
    ours: Parameter | None
    theirs: Parameter | None
    note: str = ""

    @property
    def value(self) -> Parameter | None:
        """What stands in the merged manifest; ours, with the digest yet to come, where it is computed."""
        return self.ours if self.source is None else self.candidate(self.source)

    def candidate(self, side: Side) -> Parameter | None:
        """Return the value of a side."""
        return {"base": self.base, "ours": self.ours, "theirs": self.theirs}[side]


@dataclass(frozen=True, slots=True)
class LayoutDecision:
    """What becomes of the file's layout.

    Attributes:
        action: ``take`` the skeleton; ``compute`` one from it that holds the merged parameters; or ``conflict``.
        skeleton: Of the side that is taken or started from; ours in a conflict.
        fallback: A skeleton that holds the merged parameters, for formats that cannot be laid out anew.
        note: What is lost by taking ``skeleton`` or by computing one from it.
        fallback_note: What is lost by taking ``fallback``.
    """

    action: Action
    skeleton: Skeleton
    fallback: Skeleton | None = None
    note: str = ""
    fallback_note: str = ""


@dataclass(frozen=True)
class Plan:
    """All decisions of one merge.

    Attributes:
        method: By name; what ``compute`` means.
        base: The common ancestor, None where both sides added the file.
        ours: The current branch's version.
        theirs: The other branch's version.
        decisions: One a parameter, by name.
        layout: The file's layout.
    """

    method: str
    base: Manifest | None
    ours: Manifest
    theirs: Manifest
    decisions: tuple[Decision, ...]
    layout: LayoutDecision

    @property
    def specs(self) -> dict[str, TensorSpec]:
        """Name and spec of every parameter of the merged file, conflicts standing at ours."""
        return {d.name: d.value.spec for d in self.decisions if d.value is not None}

    def reads(self) -> Iterator[Digest]:
        """Yield the digest of every tensor and skeleton that carrying out the plan may read."""
        if self.layout.action == "compute" or any(decision.action == "conflict" for decision in self.decisions):
            yield self.layout.skeleton.digest
        for decision in self.decisions:
            if decision.action == "compute":
                for parameter in inputs(decision, find_merge(self.method).contract):
                    yield parameter.digest


def plan(base: Manifest | None, ours: Manifest, theirs: Manifest, method: str) -> Plan:
    """Plan the merge of two versions of a checkpoint.

    Args:
        base: Their common ancestor, None where both were added.
        ours: The current branch's version, without conflicts.
        theirs: The other branch's version, without conflicts.
        method: For what both changed: ``ours``, ``theirs``, ``base``, ``conflict``, or the name of a plug-in.

    Raises:
        PluginError: There is no such method or format.
    """
    contract = None if method in FIXED_METHODS else find_merge(method).contract
    known = [manifest for manifest in (base, ours, theirs) if manifest is not None]
    if len({manifest.format for manifest in known}) > 1 or not find_format(ours.format).mergeable:
        return _plan_whole(base, ours, theirs, method)
    names = sorted({name for manifest in known for name in manifest.parameters})
    before = {} if base is None else base.parameters
    decisions = tuple(
        decide(name, (before.get(name), ours.parameters.get(name), theirs.parameters.get(name)), method, contract)
        for name in names
    )
    merged = {d.name: d.value.spec for d in decisions if d.value is not None}
    return Plan(method, base, ours, theirs, decisions, _decide_layout(base, ours, theirs, merged))


def inputs(decision: Decision, contract: MergeContract) -> list[Parameter]:
    """Return what a computed parameter is made from: the base where it is needed, ours, theirs."""
    wanted = (decision.base if contract.needs_base else None, decision.ours, decision.theirs)
    return [parameter for parameter in wanted if parameter is not None]


Candidates = tuple["Parameter | None", "Parameter | None", "Parameter | None"]


def decide(name: str, candidates: Candidates, method: str, contract: MergeContract | None) -> Decision:
    """Decide on one parameter.

    Args:
        name: The parameter.
        candidates: The common ancestor's value, ours and theirs; None where a side does not have it.
        method: As for ``plan``.
        contract: The method's, None for the fixed ones.
    """
    base, ours, theirs = candidates
    if ours == theirs:
        return Decision(name, "unchanged" if ours == base else "changed identically", "take", "ours", *candidates)
    if theirs == base:
        return Decision(name, _verb(base, ours, "ours"), "take", "ours", *candidates)
    if ours == base:
        return Decision(name, _verb(base, theirs, "theirs"), "take", "theirs", *candidates)
    state = _both(base, ours, theirs)
    if (side := SIDES.get(method)) is not None:
        return Decision(name, state, "take", side, *candidates)
    reason = state if contract is None or None in candidates else obstacle(candidates, contract)
    if reason is not None:
        return Decision(name, reason, "conflict", None, *candidates)
    assert ours is not None
    assert theirs is not None
    mixed = ours.spec.dtype != theirs.spec.dtype
    note = f"{name!r}: merged {theirs.spec.dtype.name} into our {ours.spec.dtype.name}" if mixed else ""
    return Decision(name, state, "compute", None, *candidates, note)


def _verb(base: Parameter | None, changed: Parameter | None, side: Side) -> str:
    return f"{'added' if base is None else 'deleted' if changed is None else 'changed'} by {side}"


def _both(base: Parameter | None, ours: Parameter | None, theirs: Parameter | None) -> str:
    if ours is None:
        return "deleted by ours, changed by theirs"
    if theirs is None:
        return "changed by ours, deleted by theirs"
    return "added by both, differently" if base is None else "changed by both"


def obstacle(candidates: Candidates, contract: MergeContract) -> str | None:
    """Return why a method cannot settle a parameter that both sides changed, or None.

    Args:
        candidates: The common ancestor's value, ours and theirs; None where a side does not have it.
        contract: The method's.
    """
    base, ours, theirs = candidates
    if ours is None or theirs is None:
        return _both(base, ours, theirs)
    if ours.spec.shape != theirs.spec.shape:
        return f"shapes differ: ours {ours.spec}, theirs {theirs.spec}"
    for kind in (ours.spec.dtype, theirs.spec.dtype):
        if not kind.arithmetic:
            return f"changed by both, and {kind.name} values are not merged by arithmetic"
    if ours.spec.dtype.kind != theirs.spec.dtype.kind:
        return f"one side is complex: ours {ours.spec}, theirs {theirs.spec}"
    if contract.needs_base and (base is None or not _alike(base, ours)):
        found = "has no such tensor" if base is None else f"has {base.spec}"
        return f"changed by both, and the common ancestor {found}"
    return None


def _alike(one: Parameter, other: Parameter) -> bool:
    same_kind = one.spec.dtype.kind == other.spec.dtype.kind and one.spec.dtype.arithmetic
    return same_kind and one.spec.shape == other.spec.shape


def _decide_layout(
    base: Manifest | None, ours: Manifest, theirs: Manifest, merged: dict[str, TensorSpec]
) -> LayoutDecision:
    def fits(side: Manifest | None) -> bool:
        return side is not None and {name: p.spec for name, p in side.parameters.items()} == merged

    ours_changed = base is None or ours.skeleton != base.skeleton
    theirs_changed = base is None or theirs.skeleton != base.skeleton
    wanted = theirs if theirs_changed and not ours_changed else ours
    if fits(wanted):
        lost = ours_changed and theirs_changed and ours.skeleton != theirs.skeleton
        return LayoutDecision("take", wanted.skeleton, None, _kept("ours") if lost else "")
    for side, name in ((ours, "ours"), (theirs, "theirs"), (base, "the common ancestor's")):
        if side is not None and fits(side):
            return LayoutDecision("compute", wanted.skeleton, side.skeleton, "", _kept(name))
    return LayoutDecision("compute", wanted.skeleton)


def _kept(whose: str) -> str:
    return f"order and metadata of the file are {whose}; other changes to them are left out"


def _plan_whole(base: Manifest | None, ours: Manifest, theirs: Manifest, method: str) -> Plan:
    source: Side | None = None
    if theirs in (base, ours):
        source = "ours"
    elif base == ours:
        source = "theirs"
    elif method != "base" or base is not None:
        source = SIDES.get(method)
    if source is not None:
        taken = {"base": base, "ours": ours, "theirs": theirs}[source]
        assert taken is not None
        rows = [
            Decision(name, f"taken from {source}", "take", "ours", None, p, p) for name, p in taken.parameters.items()
        ]
        return Plan(method, base, taken, taken, tuple(rows), LayoutDecision("take", taken.skeleton))
    same_format = ours.format == theirs.format and (base is None or base.format == ours.format)
    reason = WHOLE_FILE if same_format else FORMATS_DIFFER
    before = {} if base is None else base.parameters
    decisions = []
    for name in sorted({*ours.parameters, *theirs.parameters}):
        candidates = (before.get(name), ours.parameters.get(name), theirs.parameters.get(name))
        if candidates[1] == candidates[2]:
            decisions.append(Decision(name, "unchanged", "take", "ours", *candidates))
        else:
            decisions.append(Decision(name, reason, "conflict", None, *candidates))
    return Plan(method, base, ours, theirs, tuple(decisions), LayoutDecision("conflict", ours.skeleton, None, reason))
