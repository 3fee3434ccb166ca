"""Decide how the layout of a checkpoint is merged, from the manifests alone."""

from __future__ import annotations

from typing import TYPE_CHECKING

from git_theta_ext.model.conflicts import side_names
from git_theta_ext.records import dataclass

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from git_theta_ext.merging.planning.decision import Action
    from git_theta_ext.model.conflict_reasons import Reason
    from git_theta_ext.model.manifest import Manifest, Skeleton
    from git_theta_ext.model.tensor import TensorSpec


@dataclass(frozen=True, slots=True)
class LayoutDecision:
    """How the file's layout is merged.

    Attributes:
        action: ``take`` the skeleton, ``compute`` one from it for the merged parameters, or ``conflict``.
        skeleton: The skeleton that is taken or started from; ours in a conflict.
        fallback: A skeleton for the merged parameters, if the format cannot compose one.
        note: What is lost by taking ``skeleton`` or by computing one from it.
        fallback_note: What is lost by taking ``fallback``.
        facts: The facts of the computed layout; None for those of ``skeleton``.
        side: The side that the rules take if several sides changed the same.
        reason: Why the layout is in conflict; None if it is not.
    """

    action: Action
    skeleton: Skeleton
    fallback: Skeleton | None = None
    note: str = ""
    fallback_note: str = ""
    facts: Mapping[str, bytes] | None = None
    side: str = ""
    reason: Reason | None = None


def decide_layout(
    base: Manifest | None, sides: Sequence[Manifest], merged: dict[str, TensorSpec], moved: frozenset[int]
) -> LayoutDecision:
    """Decide how the layout is merged, from the skeletons that the sides changed.

    Args:
        base: The common ancestor; None if all sides added the file.
        sides: The versions that are merged.
        merged: Name and spec of every parameter of the merged file.
        moved: Indices of the sides whose layout has other names for some parameters; -1 for the common ancestor.
    """
    unnamed = {id(side) for number, side in [*enumerate(sides), (-1, base)] if number in moved}

    def fits(side: Manifest) -> bool:
        return id(side) not in unnamed and {name: p.spec for name, p in side.parameters.items()} == merged

    changed_by = [side for side in sides if base is None or side.skeleton != base.skeleton]
    wanted = changed_by[0] if changed_by and sides[0] not in changed_by else sides[0]
    if id(wanted) in unnamed:
        wanted = next(filter(fits, sides), wanted)
    if fits(wanted):
        lost = len({side.skeleton for side in changed_by}) > 1
        names = side_names(len(sides))
        return LayoutDecision("take", wanted.skeleton, None, _kept(names[sides.index(wanted)]) if lost else "")
    fallbacks = dict(zip(side_names(len(sides)), sides, strict=True))
    for name, side in (fallbacks if base is None else {**fallbacks, "the common ancestor": base}).items():
        if fits(side):
            return LayoutDecision("compute", wanted.skeleton, side.skeleton, "", _kept(name))
    return LayoutDecision("compute", wanted.skeleton)


def _kept(whose: str) -> str:
    return f"the order and metadata of the file are from {whose}; other changes to them are dropped"
