"""Read both sides of a diff: the checkpoints, indexes and configurations in all directories where a file differs."""

from __future__ import annotations

import posixpath
from contextlib import suppress
from types import MappingProxyType
from typing import TYPE_CHECKING

from git_theta_ext.errors import FormatError
from git_theta_ext.git.attributes import theta_paths
from git_theta_ext.git.objects import read_manifests
from git_theta_ext.model.shard_index import MAX_INDEX
from git_theta_ext.model.shards import MOST_CONFIG_BYTES, is_config, is_text
from git_theta_ext.operations.diff.sides import Side, side_of_blob, side_of_file
from git_theta_ext.operations.models import Directory, parse_index, read_configs, read_indexes
from git_theta_ext.records import dataclass, field
from git_theta_ext.util.file_bytes import open_bytes

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from git_theta_ext.git.entries import TreeEntry
    from git_theta_ext.git.raw_diff import Compared, FileChange
    from git_theta_ext.git.repository import Repository
    from git_theta_ext.model.manifest import Manifest
    from git_theta_ext.model.model_index import ModelIndex
    from git_theta_ext.operations.workspace import Workspace


@dataclass
class Tree:
    """One side of a diff.

    Attributes:
        checkpoints: Path to version of each checkpoint.
        indexes: Path to content of each index of shards.
        models: Path of a file with external data to the name of the model that it belongs to.
        configs: Path to content of each configuration of an adapter.
    """

    checkpoints: dict[str, Side] = field(default_factory=dict)
    indexes: dict[str, ModelIndex] = field(default_factory=dict)
    models: dict[str, str] = field(default_factory=dict)
    configs: dict[str, bytes] = field(default_factory=dict)

    def name_parameters(self) -> None:
        """Give parameters the names that indexes have for them.

        Raises:
            FormatError: Two parameters of a file have the same name.
        """
        for path, index in self.indexes.items():
            for file in set(index.weight_map.values()) if index.fixed is not None else ():
                shard = posixpath.join(posixpath.dirname(path), file)
                if shard in self.checkpoints:
                    self.checkpoints[shard] = self.checkpoints[shard].in_model(shard, index)


def read_trees(
    workspace: Workspace,
    compared: Compared,
    files: Sequence[FileChange],
    known: Mapping[TreeEntry, Side] = MappingProxyType({}),
) -> tuple[Tree, Tree]:
    """Read both sides of a diff.

    Args:
        workspace: The repository and its store.
        compared: Which versions are compared.
        files: All files that differ in some directories, which are read.
        known: Versions that were read already.

    Raises:
        ManifestError: A manifest is broken.
        FormatError: A file breaks its format.
    """
    repo = workspace.repo
    old = {change.old.path: change.old for change in files if change.old is not None and change.old.regular}
    new = {change.new.path: change.new for change in files if change.new is not None and change.new.regular}
    unchanged = _unchanged(repo, compared, files)
    oids = {entry.oid: entry.path for side in (old, new) for entry in side.values() if entry.oid.strip("0")}
    manifests = read_manifests(repo, oids | {oid: path for path, oid in unchanged.items()})
    formats = theta_paths(repo.run, sorted({*old, *new}))
    tracked = {path for side in (old, new) for path, entry in side.items() if entry.oid in manifests} | set(formats)
    reader = _Reader(workspace, manifests, tracked, formats, known)
    trees = reader.tree(old.values()), reader.tree(new.values())
    indexes, configs = read_indexes(repo, unchanged), read_configs(repo, unchanged)
    for tree in trees:
        tree.checkpoints |= {path: Side(manifests[oid]) for path, oid in unchanged.items() if oid in manifests}
        tree.indexes |= indexes
        tree.configs |= configs
        tree.name_parameters()
    return trees


def _unchanged(repo: Repository, compared: Compared, files: Sequence[FileChange]) -> dict[str, str]:
    """Return path and object id of the files that do not differ, in all directories of files that do."""
    entries = [entry for change in files for entry in (change.old, change.new) if entry is not None]
    different = {entry.path for entry in entries}
    tree = compared.unchanged_in(repo) if entries else ""
    if tree == "":  # files are compared, and no trees
        return {}
    listed: dict[str, str] = {}
    for folder in sorted({posixpath.dirname(path) for path in different}):
        listed |= Directory.of(repo, tree, folder).files
    return {path: oid for path, oid in listed.items() if path not in different}


@dataclass(frozen=True)
class _Reader:
    """Reads files that differ.

    Attributes:
        workspace: The repository and its store.
        manifests: The manifests among them, by object id.
        tracked: Paths of checkpoints; all other files are left out.
        formats: The ``theta-format`` attribute by path.
        known: Versions that were read already.
    """

    workspace: Workspace
    manifests: Mapping[str, Manifest]
    tracked: set[str]
    formats: Mapping[str, str | None]
    known: Mapping[TreeEntry, Side]

    def tree(self, entries: Iterable[TreeEntry]) -> Tree:
        tree = Tree()
        blobs = {}
        for entry in entries:
            if is_text(entry.path):
                if entry.oid.strip("0"):
                    blobs[entry.path] = entry.oid
                elif is_config(entry.path):
                    tree.configs |= self._config(entry.path)
                elif (index := self._index(entry.path)) is not None:
                    tree.indexes[entry.path] = index
            elif entry.path in self.tracked and (side := self._checkpoint(entry)) is not None:
                tree.checkpoints[entry.path] = side
        tree.indexes |= read_indexes(self.workspace.repo, blobs)
        tree.configs |= read_configs(self.workspace.repo, blobs)
        return tree

    def _checkpoint(self, entry: TreeEntry) -> Side | None:
        if entry in self.known:
            return self.known[entry]
        name, file = self.formats.get(entry.path), self.workspace.repo.folder / entry.path
        if entry.oid in self.manifests:
            return Side(self.manifests[entry.oid])
        if entry.oid.strip("0"):
            return side_of_blob(self.workspace, entry.oid, entry.path, name)
        try:
            return side_of_file(self.workspace, file, entry.path, name)
        except FileNotFoundError:
            return None  # deleted since git looked

    def _config(self, path: str) -> dict[str, bytes]:
        with suppress(OSError):
            data = open_bytes(self.workspace.repo.folder / path)
            if data.nbytes <= MOST_CONFIG_BYTES:
                return {path: bytes(data[:])}
        return {}

    def _index(self, path: str) -> ModelIndex | None:
        with suppress(OSError, FormatError):
            data = open_bytes(self.workspace.repo.folder / path)
            if data.nbytes <= MAX_INDEX:
                return parse_index(path, bytes(data[:]))
        return None
