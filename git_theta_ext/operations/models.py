"""Read models of several files from commits: which files of a directory belong together, and their versions."""

from __future__ import annotations

import posixpath
from contextlib import suppress
from functools import cached_property
from typing import TYPE_CHECKING

from git_theta_ext.errors import FormatError
from git_theta_ext.git.entries import EXECUTABLE
from git_theta_ext.git.objects import object_infos, read_manifests, read_objects
from git_theta_ext.git.path_attributes import model_names
from git_theta_ext.git.pathspecs import worktree_of
from git_theta_ext.interfaces.model_indexes import IndexedFormat
from git_theta_ext.model.model_version import ModelVersion
from git_theta_ext.model.shard_index import MAX_INDEX, ShardIndex
from git_theta_ext.model.shards import INDEX_FORMATS, MOST_CONFIG_BYTES, is_config, is_index, models_of
from git_theta_ext.records import dataclass, replace
from git_theta_ext.registry import find_format

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from git_theta_ext.git.entries import TreeEntry
    from git_theta_ext.git.repository import Repository
    from git_theta_ext.model.model_index import ModelIndex
    from git_theta_ext.model.shards import ModelFiles


@dataclass(frozen=True)
class Directory:
    """The files of one directory in a commit, a tree or the index.

    Attributes:
        repo: The repository.
        files: Path to object id.
        executable: Paths of the files that are executable.
    """

    repo: Repository
    files: Mapping[str, str]
    executable: frozenset[str] = frozenset()

    @classmethod
    def of(cls, repo: Repository, rev: str | None, path: str) -> Directory:
        """Read a directory; one that does not exist has no files.

        Args:
            repo: The repository.
            rev: A commit or a tree; None for the index.
            path: The directory, relative to the top; empty for the top.

        Raises:
            RepositoryError: There is no such commit.
        """
        if rev is None:
            entries = [e for e in repo.entries(None) if posixpath.dirname(e.path) == path and not e.stage]
        else:
            entries = list(repo.directory(rev, path))
        return cls._of(repo, entries)

    @classmethod
    def of_tree(cls, repo: Repository, tree: str, path: str) -> Directory:
        """Read the tree of a directory.

        Args:
            repo: The repository.
            tree: Object id of the tree.
            path: The directory, relative to the top; empty for the top.
        """
        entries = repo.directory(tree, "")
        return cls._of(repo, [replace(entry, path=posixpath.join(path, entry.path)) for entry in entries])

    @classmethod
    def _of(cls, repo: Repository, entries: Iterable[TreeEntry]) -> Directory:
        files = {entry.path: entry for entry in entries if entry.regular}
        executable = frozenset(path for path, entry in files.items() if entry.mode == EXECUTABLE)
        return cls(repo, {path: entry.oid for path, entry in files.items()}, executable)

    def at(self, path: str) -> Directory:
        """Return the files as if the directory had another path."""
        files = {posixpath.join(path, posixpath.basename(file)): oid for file, oid in self.files.items()}
        executable = (posixpath.join(path, posixpath.basename(file)) for file in self.executable)
        return Directory(self.repo, files, frozenset(executable))

    @cached_property
    def models(self) -> dict[str, ModelFiles]:
        """The models of the directory by name, and every other file as a model by itself."""
        names = model_names(self.repo.run, self.files)
        others = [path for path in self.files if path not in self._indexes and path not in self._configs]
        return {model.name: model for model in models_of(others, self._indexes, names, self._configs)}

    def model_with(self, path: str) -> ModelFiles | None:
        """Return the model that a file belongs to; None if there is no such file."""
        return next((model for model in self.models.values() if path in model.files), None)

    def version(self, name: str) -> ModelVersion | None:
        """Return the version of a model; None if it is not here, or none of its files is a manifest.

        Raises:
            FormatError: Two files hold the same parameter, or have different formats.
            ManifestError: A manifest is broken.
        """
        model = self.models.get(name)
        oids = {} if model is None else {self.files[path]: path for path in model.shards}
        manifests = read_manifests(self.repo, oids)
        if model is None or not manifests:
            return None
        if len(manifests) < len(oids):
            stored = next(path for oid, path in oids.items() if oid not in manifests)
            raise FormatError(f"{stored} is stored by git itself, and other files of the model are not")
        shards = {path: manifests[self.files[path]] for path in model.shards}
        index = self._indexes.get(model.index or "")
        version = ModelVersion.of(shards, model.index, index)
        return replace(version, config_path=model.config, config=self._configs.get(model.config or ""))

    @cached_property
    def _configs(self) -> dict[str, bytes]:
        """The configurations of adapters; what is too large is left out."""
        return read_configs(self.repo, self.files)

    @cached_property
    def _indexes(self) -> dict[str, ModelIndex]:
        """The indexes of shards."""
        return read_indexes(self.repo, self.files)


def models_among(repo: Repository, rev: str | None, checkpoints: Iterable[str]) -> list[ModelFiles]:
    """Return the models that some checkpoints of a commit make up.

    Args:
        repo: The repository.
        rev: The commit; None for the index.
        checkpoints: Their paths.
    """
    return indexed_models(repo, rev, checkpoints)[0]


def indexed_models(
    repo: Repository, rev: str | None, checkpoints: Iterable[str]
) -> tuple[list[ModelFiles], dict[str, ModelIndex]]:
    """Return the models that some checkpoints of a commit make up, and the indexes in their directories.

    Args:
        repo: The repository.
        rev: The commit; None for the index.
        checkpoints: Their paths.
    """
    paths = list(checkpoints)
    folders = {posixpath.dirname(path) for path in paths}
    files = {e.path: e.oid for e in repo.entries(rev) if not e.stage and posixpath.dirname(e.path) in folders}
    indexes = read_indexes(repo, files)
    return models_of(paths, indexes, model_names(repo.run, paths)), indexes


def read_configs(repo: Repository, files: Mapping[str, str]) -> dict[str, bytes]:
    """Return the configurations of adapters among some files; what is too large is left out.

    Args:
        repo: The repository.
        files: Path to object id.
    """
    oids = {path: oid for path, oid in files.items() if is_config(path)}
    infos = object_infos(repo, oids.values()) if oids else {}
    small = {oid for oid, info in infos.items() if info.nbytes <= MOST_CONFIG_BYTES}
    content = dict(read_objects(repo, small)) if small else {}
    return {path: content[oid] for path, oid in oids.items() if oid in content}


def read_indexes(repo: Repository, files: Mapping[str, str]) -> dict[str, ModelIndex]:
    """Return the indexes of shards among some files; what is named like one and is not is left out.

    Args:
        repo: The repository.
        files: Path to object id.
    """
    oids = {path: oid for path, oid in files.items() if is_index(path)}
    infos = object_infos(repo, oids.values())
    small = {oid for oid, info in infos.items() if info.nbytes <= MAX_INDEX}
    content = dict(read_objects(repo, small))
    indexes = {}
    for path, oid in oids.items():
        with suppress(FormatError):
            if oid in content:
                indexes[path] = parse_index(path, content[oid])
    return indexes


def parse_index(path: str, data: bytes) -> ModelIndex:
    """Read an index, given its path.

    Raises:
        FormatError: It is not one.
    """
    formats = INDEX_FORMATS.get(posixpath.basename(path))
    if formats is None:
        return ShardIndex.parse(data)
    if len(data) > MAX_INDEX:
        raise FormatError(f"the index of {len(data)} bytes exceeds the limit of {MAX_INDEX}")
    found = find_format(formats[0])
    assert isinstance(found, IndexedFormat)
    return found.read_index(data)


def indexes_in_worktree(repo: Repository, folders: Iterable[str]) -> dict[str, ModelIndex]:
    """Return the indexes of shards in some directories of the work tree; what is named like one and is not is left out.

    Raises:
        RepositoryError: There is no work tree.
    """
    top = worktree_of(repo)
    indexes = {}
    for folder in folders:
        for file in filter(lambda file: is_index(file.name), sorted((top / folder).iterdir())):
            with suppress(FormatError, OSError):
                if file.stat().st_size <= MAX_INDEX:
                    indexes[posixpath.join(folder, file.name)] = parse_index(file.name, file.read_bytes())
    return indexes
