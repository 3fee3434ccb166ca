"""Find the models of both sides of a diff, and which of these are versions of one model."""

from __future__ import annotations

import posixpath
from typing import TYPE_CHECKING

from git_theta_ext.model.shards import is_adapter, models_of
from git_theta_ext.records import dataclass

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from git_theta_ext.git.raw_diff import FileChange
    from git_theta_ext.operations.diff.sides import Side
    from git_theta_ext.operations.diff.trees import Tree

_Node = tuple[str, str]
_OLD, _NEW = "old", "new"


@dataclass(frozen=True)
class Pair:
    """Two versions of a model.

    Attributes:
        name: The path that the newer version, or else the older one, has or would have as one file.
        old_name: The same of the older version.
        old: Path to version of each file; empty if there is no older version.
        new: Path to version of each file; empty if there is no newer version.
        configs: Path to content of the configuration of an adapter in both versions; empty if there is none.
    """

    name: str
    old_name: str
    old: Mapping[str, Side]
    new: Mapping[str, Side]
    configs: tuple[Mapping[str, bytes], Mapping[str, bytes]] = ({}, {})

    @property
    def paths(self) -> set[str]:
        """The paths of all files in both versions."""
        return {path for files in (self.old, self.new, *self.configs) for path in files}


def pairs_of(old: Tree, new: Tree, files: Iterable[FileChange], names: Mapping[str, str]) -> list[Pair]:
    """Return the models of two trees.

    Two models are versions of one if they have the same name or a file in common, or if git finds that a file of one
    was renamed to a file of the other, and neither is in both trees.

    Args:
        old: The older tree.
        new: The newer tree.
        files: The files that differ.
        names: Path to the name that the attribute ``theta-model`` gives to the checkpoint's model.
    """
    before, after = _models(old, names), _models(new, names)
    sets = _Sets()
    for path, model in before.items():
        sets.join((_OLD, model), (_OLD, model))
        if path in after:
            sets.join((_OLD, model), (_NEW, after[path]))
    for model in set(after.values()):
        sets.join((_NEW, model), (_OLD, model) if model in before.values() else (_NEW, model))
    kept = set(before.values()) & set(after.values())
    for change in files:
        if change.old is not None and change.new is not None and change.old.path != change.new.path:
            source, target = before.get(change.old.path), after.get(change.new.path)
            if source is not None and target is not None and not {source, target} & kept:
                sets.join((_OLD, source), (_NEW, target))
    return [_pair(old, new, before, after, group) for group in sets.groups()]


def _models(tree: Tree, names: Mapping[str, str]) -> dict[str, str]:
    """Return the model of each checkpoint."""
    models = models_of(tree.checkpoints, tree.indexes, names)
    return {path: model.name for model in models for path in model.shards}


def _pair(old: Tree, new: Tree, before: Mapping[str, str], after: Mapping[str, str], group: set[_Node]) -> Pair:
    earlier = sorted(name for side, name in group if side == _OLD)
    later = sorted(name for side, name in group if side == _NEW)
    return Pair(
        (later or earlier)[0],
        next((name for name in earlier if name in later), (earlier or later)[0]),
        {path: side for path, side in old.checkpoints.items() if before[path] in earlier},
        {path: side for path, side in new.checkpoints.items() if after[path] in later},
        (_configs(old, earlier), _configs(new, later)),
    )


def _configs(tree: Tree, models: Iterable[str]) -> dict[str, bytes]:
    """Return the configurations of the adapters among some models."""
    folders = {posixpath.dirname(model) for model in models if is_adapter(model)}
    return {path: config for path, config in tree.configs.items() if posixpath.dirname(path) in folders}


class _Sets:
    """Disjoint sets of models."""

    def __init__(self) -> None:
        self._groups: dict[_Node, set[_Node]] = {}

    def join(self, one: _Node, other: _Node) -> None:
        """Put two models into the same set."""
        merged = self._groups.get(one, {one}) | self._groups.get(other, {other})
        for node in merged:
            self._groups[node] = merged

    def groups(self) -> list[set[_Node]]:
        """Return the sets."""
        return list({id(group): group for group in self._groups.values()}.values())
