"""Choose a file's layout once none of its parameters is in conflict."""

from __future__ import annotations

from typing import TYPE_CHECKING

from git_theta_ext.errors import MergeError
from git_theta_ext.records import replace
from git_theta_ext.store.skeletons import read_skeleton
from git_theta_ext.util.text import shortlist

if TYPE_CHECKING:
    from collections.abc import Mapping

    from git_theta_ext.model.conflicts import LayoutConflict
    from git_theta_ext.model.manifest import Manifest, Skeleton
    from git_theta_ext.model.tensor import TensorSpec
    from git_theta_ext.store.store import Store


def resolve_layout(manifest: Manifest, store: Store, side: str | None) -> Manifest:
    """Return a manifest with a side's layout, with the only layout that fits, or with a newly composed one.

    Args:
        manifest: A manifest without conflicts of parameters.
        store: The store with the layouts.
        side: The side whose layout is preferred; None for no preference.

    Raises:
        MergeError: No file of this format can hold these parameters.
        MissingError: A layout is not in the store.
        CorruptError: A layout in the store is damaged.
    """
    specs = {name: parameter.spec for name, parameter in manifest.parameters.items()}
    conflict = manifest.layout_conflict
    layouts = [manifest.skeleton] if conflict is None else _layouts(conflict, side)
    fitting = [skeleton for skeleton in dict.fromkeys(layouts) if _parameters(skeleton, store) == specs]
    decided = conflict is not None and side in conflict.candidates
    if len(fitting) == 1 or (fitting and decided):
        return replace(manifest, skeleton=fitting[0], layout_conflict=None)
    if fitting:
        return manifest
    from git_theta_ext.merging.apply import compose  # imports all that merges, and ls-files imports this module

    start = conflict.candidates[side] if conflict is not None and side is not None and decided else None
    composed = compose(manifest.format, start or manifest.skeleton, specs, store)
    if composed is None:
        raise MergeError(
            f"a {manifest.format} file cannot hold this combination of parameters: {_misfit(layouts[0], specs, store)}",
            hint="git checkout --ours PATH && git add PATH takes the whole file of one side (or --theirs)",
        )
    return replace(manifest, skeleton=composed, layout_conflict=None)


def _layouts(conflict: LayoutConflict, side: str | None) -> list[Skeleton]:
    candidates: Mapping[str, Skeleton | None] = conflict.candidates
    preferred = [candidates.get(side)] if side is not None else []
    return [skeleton for skeleton in (*preferred, *candidates.values()) if skeleton is not None]


def _misfit(skeleton: Skeleton, specs: Mapping[str, TensorSpec], store: Store) -> str:
    """Return why some parameters are not those of a layout."""
    own = _parameters(skeleton, store)
    kinds = {
        "needs": own.keys() - specs.keys(),
        "has no place for": specs.keys() - own.keys(),
        "has another shape or type of": {name for name in own.keys() & specs.keys() if own[name] != specs[name]},
    }
    return "its layout " + " and ".join(
        f"{verb} {shortlist(sorted(names), 3)}" for verb, names in kinds.items() if names
    )


def _parameters(skeleton: Skeleton, store: Store) -> dict[str, TensorSpec]:
    return read_skeleton(store, skeleton).parameters
