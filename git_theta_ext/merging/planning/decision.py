"""Decide how one parameter is merged, from the digests of its versions: no tensor is read."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from git_theta_ext.merging.planning.obstacles import new_types, obstacle, obstacle_to_change, reshaped, types_differ
from git_theta_ext.merging.rules.rules import APPLY
from git_theta_ext.model.conflict_reasons import ConflictCode, Reason
from git_theta_ext.model.conflicts import MOST_SIDES, side_names
from git_theta_ext.records import dataclass, replace
from git_theta_ext.registry import find_merge

if TYPE_CHECKING:
    from collections.abc import Sequence

    from git_theta_ext.merging.planning.casts import Casts
    from git_theta_ext.merging.rules.rules import Choice
    from git_theta_ext.model.dtypes import Dtype
    from git_theta_ext.model.manifest import Parameter

    Values = Sequence[Parameter | None]

Action = Literal["take", "cast", "apply", "compute", "conflict"]


@dataclass(frozen=True, slots=True)
class Decision:
    """How one parameter is merged.

    Attributes:
        name: The parameter.
        state: What the sides did to it, for people.
        action: ``take`` the value of ``source`` (which deletes the parameter if that side does not have it), ``cast``
            it to another element type, ``apply`` their change to our value, ``compute`` it by a merge method, or leave
            it in ``conflict``.
        source: The side whose value is taken or cast; None for other actions.
        base: The common ancestor's value, or None.
        sides: Our value, and those of the branches that are merged.
        choice: The choice of the rules.
        changers: Indices of the sides that changed it, except those that changed only its element type.
        note: A message for the user.
        into: Element type of the computed value; None for our element type.
        reason: Why it is in conflict; None if it is not.
    """

    name: str
    state: str
    action: Action
    source: str | None
    base: Parameter | None
    sides: tuple[Parameter | None, ...]
    choice: Choice
    changed_by: tuple[int, ...] = ()
    note: str = ""
    into: Dtype | None = None
    reason: Reason | None = None

    @property
    def unchanged(self) -> bool:
        """Whether no side changed it."""
        return self.action == "take" and not self.changed_by

    @property
    def value(self) -> Parameter | None:
        """The value in the merged manifest; the digest is not known yet if it is computed."""
        if self.source is not None:
            value = self.candidate(self.source)
        else:
            value = self.grown if self.action == "compute" else self.sides[0]
        if self.into is None or value is None:
            return value
        return replace(value, spec=replace(value.spec, dtype=self.into))

    @property
    def computed(self) -> bool:
        """Whether its value is computed."""
        return self.action in {"cast", "apply", "compute"}

    @property
    def inputs(self) -> list[Parameter]:
        """The values that it is computed from."""
        if self.action == "cast" and self.source is not None:
            wanted: list[Parameter | None] = [self.candidate(self.source)]
        elif self.action == "apply":
            one, other = self.changed_by
            wanted = [self.sides[one], self.base, self.sides[other]]
        elif self.action == "compute":
            before = self.base if find_merge(self.choice.method).contract.needs_base else None
            wanted = [before, *(self.sides[number] for number in self.changed_by)]
        else:
            wanted = []
        return [parameter for parameter in wanted if parameter is not None]

    @property
    def grown(self) -> Parameter | None:
        """The result of a merge method: it has the shape of the side with the most rows, and our element type."""
        present = [value for value in self.sides if value is not None]
        if not present or all(value.spec is present[0].spec for value in present):
            return present[0] if present else None
        if len({value.spec.shape for value in present}) <= 1:
            return present[0]
        longest = max(present, key=lambda value: value.spec.shape[:1])
        if longest.spec.shape == present[0].spec.shape:
            return present[0]
        return replace(longest, spec=replace(longest.spec, dtype=present[0].spec.dtype))

    def in_conflict(self, reason: Reason) -> Decision:
        """Return the decision to leave it in conflict."""
        return replace(self, state=reason.text, action="conflict", source=None, into=None, reason=reason)

    def candidate(self, side: str) -> Parameter | None:
        """Return the value of a side, by the name of the side."""
        if side == "base":
            return self.base
        return self.sides[side_names(len(self.sides)).index(side)]


def decide(  # noqa: PLR0913 - named
    name: str,
    base: Parameter | None,
    sides: Values,
    choice: Choice,
    *,
    baseless: bool = False,
    casts: Casts | None = None,
) -> Decision:
    """Decide how one parameter is merged.

    Args:
        name: The parameter.
        base: The common ancestor's value, or None.
        sides: Our value, and those of the branches that are merged.
        choice: The choice of the rules.
        baseless: Whether values without a common ancestor may be merged.
        casts: The sides that only changed the element type; None if no side changed it.
    """
    names = side_names(len(sides))
    changed_by = tuple(number for number, value in enumerate(sides) if value != base)
    fixed = (name, base, tuple(sides), choice, changed_by)
    if len({sides[number] for number in changed_by}) <= 1:
        state = _agreed(base, sides, changed_by, names)
        return _decision(fixed, state, "take", names[changed_by[0] if changed_by else 0])
    if casts is None or base is None:
        return _merged(fixed, baseless=baseless)
    if casts.unknown:
        text = f"cannot tell whether a side only changed the element type: {casts.unknown}"
        return _conflict(fixed, Reason.of(ConflictCode.FAILED, text))
    return _cast(fixed, base, casts.sides) or _merged(fixed, baseless=baseless)


def decide_disputed(name: str, sides: Values, choice: Choice) -> Decision:
    """Decide on a parameter whose value differs between common ancestors, so that any side may have changed it.

    Args:
        name: The parameter.
        sides: Our value, and those of the branches that are merged.
        choice: The choice of the rules.
    """
    names = side_names(len(sides))
    fixed = (name, None, tuple(sides), choice, tuple(range(len(sides))))
    if len(set(sides)) == 1:
        return _decision(fixed, "the same on all sides", "take", names[0])
    state = "the common ancestors differ, and so do the sides"
    if choice.method in names:
        return _decision(fixed, state, "take", choice.method)
    merged = None if choice.method == "base" or None in sides else _merged(fixed, baseless=True)
    if merged is None or merged.action == "conflict":
        return _conflict(fixed, Reason.of(ConflictCode.ANCESTOR, state))
    return replace(merged, state=state)


def _cast(fixed: _Fixed, base: Parameter, casters: frozenset[int]) -> Decision | None:
    """Decide if some sides only changed the element type: the other sides' change is taken, in that type."""
    name, _, sides, choice, changed_by = fixed
    names = side_names(len(sides))
    others = tuple(number for number in changed_by if number not in casters)
    values = {sides[number] for number in others}
    types = new_types(base, [sides[number] for number in changed_by])
    if not casters or None in values:
        return None
    if len(types) > 1:
        return _conflict(fixed, types_differ(types))
    (into,) = types
    cast = f"cast to {into.name} by {' and '.join(names[number] for number in sorted(casters))}"
    if not others:
        return _decision(fixed, cast, "take", names[min(casters)])
    less = (name, base, sides, choice, others)
    if len(values) > 1:
        decision = _merged(less, baseless=False)
        return replace(decision, into=into) if decision.computed else decision
    value, source = sides[others[0]], names[others[0]]
    assert value is not None
    if value.spec.dtype.kind != into.kind or not value.spec.dtype.arithmetic:
        return None
    note = f"the change is taken as {into.name}: another side only changed the element type"
    action: Action = "take" if value.spec.dtype == into else "cast"
    decision = _decision(less, f"changed by {source}, {cast}", action, source, note)
    return replace(decision, into=into if action == "cast" else None)


def _merged(fixed: _Fixed, *, baseless: bool) -> Decision:
    """Decide by the rules on a parameter that several sides changed."""
    _, base, sides, choice, changed_by = fixed
    names = side_names(len(sides))
    differing = _differing(base, sides, changed_by, names)
    state = differing.text
    if choice.method in ("base", *names):
        return _decision(fixed, state, "take", choice.method)
    if choice.method in ("conflict", "theirs", *side_names(MOST_SIDES)):  # or a side that does not exist
        return _conflict(fixed, differing)
    values = [sides[number] for number in changed_by]
    if choice.method == APPLY:
        reason = differing if base is None or None in values else obstacle_to_change(base, values)
        if reason is not None:
            return _conflict(fixed, reason)
        types = new_types(base, values)
        return replace(_decision(fixed, state, "apply", None), into=next(iter(types), None))
    lacking = None in values or (base is None and not baseless)
    reason = differing if lacking else obstacle(base, values, choice, changed_by)
    if reason is None and base is not None and not baseless:
        reason = reshaped(base, values)
    if reason is not None:
        return _conflict(fixed, reason)
    kinds = {value.spec.dtype.name for value in values if value is not None}
    ours = next(value for value in sides if value is not None).spec.dtype.name
    note = f"merged {' and '.join(sorted(kinds - {ours}))} into our {ours}" if kinds - {ours} else ""
    return _decision(fixed, state, "compute", None, note)


_Fixed = tuple[str, "Parameter | None", "tuple[Parameter | None, ...]", "Choice", "tuple[int, ...]"]


def _decision(fixed: _Fixed, state: str, action: Action, source: str | None, note: str = "") -> Decision:
    name, base, sides, choice, changed_by = fixed
    return Decision(name, state, action, source, base, sides, choice, changed_by, note)


def _conflict(fixed: _Fixed, reason: Reason) -> Decision:
    return _decision(fixed, reason.text, "conflict", None).in_conflict(reason)


def _agreed(base: Parameter | None, sides: Values, changed_by: Sequence[int], names: Sequence[str]) -> str:
    if not changed_by:
        return "unchanged"
    if len(changed_by) > 1:
        return "changed identically"
    verb = "added" if base is None else "deleted" if sides[changed_by[0]] is None else "changed"
    return f"{verb} by {names[changed_by[0]]}"


def _differing(base: Parameter | None, sides: Values, changed_by: Sequence[int], names: Sequence[str]) -> Reason:
    """Return what several sides did to a parameter, as the reason of a conflict."""
    verb = "added" if base is None else "changed"
    gone = [names[number] for number in changed_by if sides[number] is None]
    there = [names[number] for number in changed_by if sides[number] is not None]
    if gone:
        parts = {names.index(side): f"deleted by {side}" for side in gone}
        parts |= {names.index(side): f"{verb} by {side}" for side in there}
        return Reason.of(ConflictCode.DELETED, ", ".join(parts[number] for number in sorted(parts)))
    who = "both" if len(sides) == 2 else f"{len(there)} of {len(sides)} sides"  # noqa: PLR2004 - ours and theirs
    if base is None:
        return Reason.of(ConflictCode.ADDED, f"{verb} by {who}, differently")
    return Reason.of(ConflictCode.CHANGED, f"{verb} by {who}")
