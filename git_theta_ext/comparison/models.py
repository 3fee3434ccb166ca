"""Compare two versions of a model of several files, in which parameters may move between files."""

from __future__ import annotations

import posixpath
from typing import TYPE_CHECKING

from git_theta_ext.comparison.compare import Move, compare
from git_theta_ext.records import replace

if TYPE_CHECKING:
    from collections.abc import Mapping

    from git_theta_ext.comparison.compare import Diff
    from git_theta_ext.model.manifest import Manifest
    from git_theta_ext.model.model_version import ModelVersion


def compare_models(old: ModelVersion | None, new: ModelVersion | None) -> Diff:
    """Compare two versions of a model by the digests of their parameters, whichever file holds these.

    Args:
        old: The earlier version, or None.
        new: The later version, or None.
    """
    diff = compare(_one(old), _one(new))
    before, after = _shards(old), _shards(new)
    files = replace(diff, old_files=tuple(before), new_files=tuple(after))
    if len(before) <= 1 >= len(after):
        return files
    return replace(files, layout_changed=_layout_changed(before, after), moved=_moves(old, new))


def _shards(version: ModelVersion | None) -> Mapping[str, Manifest]:
    return {} if version is None else version.shards


def _one(version: ModelVersion | None) -> Manifest | None:
    if version is None:
        return None
    return next(iter(version.shards.values())) if len(version.shards) == 1 else version.as_one()


def _layout_changed(before: Mapping[str, Manifest], after: Mapping[str, Manifest]) -> bool:
    """Return whether a file that both versions have differs in its order or metadata."""
    old, new = (
        {posixpath.basename(path): manifest.skeleton for path, manifest in shards.items()} for shards in (before, after)
    )
    return any(old[name] != new[name] for name in old.keys() & new.keys())


def _moves(old: ModelVersion | None, new: ModelVersion | None) -> dict[str, Move]:
    """Return the parameters in another file; a file in a directory that was renamed is not another one."""
    if old is None or new is None:
        return {}
    return {
        name: Move(old.places[name], path)
        for name, path in new.places.items()
        if name in old.places and posixpath.basename(old.places[name]) != posixpath.basename(path)
    }
