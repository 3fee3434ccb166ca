"""Decide which files a merged model has, and which of them holds each parameter. Nothing is read here.

The files are those of one side, because a mixture could hold a parameter twice: those of the side that moved
parameters, or ours if several sides did.
"""

from __future__ import annotations

from bisect import bisect
from typing import TYPE_CHECKING

from git_theta_ext.model.conflicts import side_names
from git_theta_ext.model.model_version import index_of
from git_theta_ext.records import dataclass

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from git_theta_ext.model.model_index import ModelIndex
    from git_theta_ext.model.model_version import ModelVersion


@dataclass(frozen=True)
class ModelLayout:
    """The files of a merged model.

    Attributes:
        side: Index of the side whose files they are.
        places: Parameter to the path of the file that holds it.
        note: A message for the user; empty if there is nothing to say.
    """

    side: int
    places: Mapping[str, str]
    note: str = ""


def decide_model_layout(
    base: ModelVersion | None, sides: Sequence[ModelVersion], names: Iterable[str], preferred: str = ""
) -> ModelLayout:
    """Decide which files the merged model has.

    Args:
        base: The common ancestor; None if all sides added the model.
        sides: The versions that are merged.
        names: The parameters of the merged model.
        preferred: The side that the rules take if several sides changed the same; empty for ours.
    """
    changed_by = [number for number, side in enumerate(sides) if base is None or layouts_differ(base, side)]
    side = changed_by[0] if changed_by else 0
    different = any(layouts_differ(sides[side], sides[number]) for number in changed_by)
    sides_by_name = dict(zip(side_names(len(sides)), range(len(sides)), strict=True))
    if different and sides_by_name.get(preferred) in changed_by:
        side = sides_by_name[preferred]
    kept = side_names(len(sides))[side]
    note = f"several sides moved parameters between files, and the files of {kept} are kept" if different else ""
    versions = [sides[side], *sides, *([] if base is None else [base])]
    files = frozenset(sides[side].shards)
    ordered = sorted(sides[side].places)
    places = {name: _place(name, versions, files) or _beside(name, ordered, sides[side]) for name in sorted(names)}
    return ModelLayout(side, places, note)


def merged_index(
    base: ModelVersion | None, sides: Sequence[ModelVersion], layout: ModelLayout, merged: ModelVersion
) -> ModelIndex | None:
    """Return the index of a merged model, or None if there is none.

    It is that of the side whose files the model has, rewritten for the merged files. One that cannot be rewritten is
    taken from the first side that changed it.
    """
    target = sides[layout.side]
    if target.index is None or target.index.fixed is None:
        return index_of(target, merged)
    before = None if base is None or base.index is None else base.index.to_bytes()
    candidates = [target, *sides]
    changed = (side.index for side in candidates if side.index is not None and side.index.to_bytes() != before)
    return next(changed, target.index)


def layouts_differ(one: ModelVersion, other: ModelVersion) -> bool:
    """Return whether two versions of a model have different files, or a parameter of both in different files."""
    if set(one.shards) != set(other.shards):
        return True
    return any(one.places[name] != path for name, path in other.places.items() if name in one.places)


def _place(name: str, versions: Sequence[ModelVersion], files: frozenset[str]) -> str | None:
    """Return the file in which the first version that has a parameter has it, if it is one of some files."""
    path = next((version.places[name] for version in versions if name in version.places), None)
    return path if path in files else None


def _beside(name: str, names: Sequence[str], target: ModelVersion) -> str:
    """Return the file of a version that holds the parameter before another one by name."""
    at = bisect(names, name)
    return target.places[names[at - 1]] if at else min(target.shards)
