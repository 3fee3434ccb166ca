"""Find the versions of a model of several files in the commits that are merged."""

from __future__ import annotations

import posixpath
from functools import cached_property
from typing import TYPE_CHECKING

from git_theta_ext.errors import FormatError, ManifestError
from git_theta_ext.git.entries import EXECUTABLE, REGULAR
from git_theta_ext.git.revisions import find_object
from git_theta_ext.merging.model_versions import ModelVersions
from git_theta_ext.operations.models import Directory
from git_theta_ext.records import dataclass
from git_theta_ext.util.quoting import shown_path

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from git_theta_ext.git.repository import Repository
    from git_theta_ext.operations.merge.merged_trees import MergedTrees


@dataclass(frozen=True)
class MergedDirectories:
    """The directory of a model in each of the commits that are merged.

    Attributes:
        path: A file of the model.
        trees: The commits.
        base: The directory in the common ancestor; None if there is none.
        sides: The directory in each commit.
        old_folder: The path of the directory before some commits renamed it; the same as ``folder`` if none did. The
            files of all commits have the new path.
    """

    path: str
    trees: MergedTrees
    base: Directory | None
    sides: tuple[Directory, ...]
    old_folder: str

    @property
    def folder(self) -> str:
        """The path of the directory."""
        return posixpath.dirname(self.path)

    def old_paths(self, paths: Iterable[str]) -> set[str]:
        """Return the paths that some files had before the directory was renamed; empty if it was not."""
        if self.old_folder == self.folder:
            return set()
        return {posixpath.join(self.old_folder, posixpath.basename(path)) for path in paths}

    def tree(self, rev: str) -> str | None:
        """Return the id of the directory's tree in one of the commits; None if it is not there."""
        repo = self.sides[0].repo
        for folder in (self.folder, self.old_folder):
            if (tree := find_object(repo, f"{rev}:{folder}")) is not None:
                return tree
        return None

    @cached_property
    def name(self) -> str:
        """The path that the model has, or would have, as one file."""
        models = (directory.model_with(self.path) for directory in self.every())
        return next((model.name for model in models if model is not None), self.path)

    def every(self) -> tuple[Directory, ...]:
        """Return the directory in each commit, and in the common ancestor if there is one."""
        return self.sides if self.base is None else (*self.sides, self.base)

    def sharded(self) -> bool:
        """Return whether the model is more than one file in some commit."""
        models = [directory.models.get(self.name) for directory in self.every()]
        return any(model is not None and model.sharded for model in models)

    def files(self, directory: Directory | None) -> dict[str, str]:
        """Return path and object id of the model's files."""
        model = None if directory is None else directory.models.get(self.name)
        if directory is None or model is None:
            return {}
        return {path: directory.files[path] for path in model.files}

    def mode(self, path: str) -> str:
        """Return the merged mode of a file, which is that of a side that changed it."""
        base = None if self.base is None or path not in self.base.files else path in self.base.executable
        modes = [path in side.executable for side in self.sides if path in side.files]
        changed = [mode for mode in modes if mode != base]
        return EXECUTABLE if next(iter([*changed, *modes]), False) else REGULAR

    def versions(self) -> ModelVersions | None:
        """Return the versions of the model; None if they cannot be merged as one.

        Raises:
            ManifestError: A manifest is broken, or a side was committed with conflicts.
        """
        try:
            base = None if self.base is None else self.base.version(self.name)
            sides = [directory.version(self.name) for directory in self.sides]
        except FormatError:
            return None
        known = tuple(side for side in sides if side is not None)
        if len(known) < len(sides):
            return None
        for side in known:
            for path, manifest in side.shards.items():
                if manifest.conflicted:
                    raise ManifestError(
                        f"{shown_path(path)} was committed with conflicts",
                        hint="git theta resolve, and commit, on that branch",
                    )
        versions = ModelVersions(self.name, base, known)
        return versions if versions.mergeable else None


@dataclass(frozen=True)
class MergedModel:
    """A model that is merged.

    Attributes:
        name: The path that the model has, or would have, as one file.
        contents: Path and content of each file as git stores it.
        removed: Paths of files that only other versions have.
        by_git: Whether git's merge ends with these files if the driver returns them.
    """

    name: str
    contents: Mapping[str, bytes]
    removed: tuple[str, ...]
    by_git: bool = True


def directories_of(
    repo: Repository, candidates: Iterable[MergedTrees], path: str, oids: Sequence[str | None]
) -> MergedDirectories | None:
    """Return the directory of a model in the commits that are merged; None if these are unknown.

    Args:
        repo: The repository.
        candidates: What may be merged.
        path: A file of the model.
        oids: Object ids of the versions of this file, the common ancestor's first; those that are None are not
            compared.
    """
    for trees in candidates:
        found = directories_at(repo, trees, path)
        versions = (found.base, *found.sides)
        if len(versions) == len(oids) and all(map(_has, versions, oids)):
            return found
    return None


def directories_at(repo: Repository, trees: MergedTrees, path: str) -> MergedDirectories:
    """Return the directory of the model that a file belongs to in each of some commits.

    If some commits renamed the directory since the common ancestor, all files are those of the new one.

    Args:
        repo: The repository.
        trees: The commits.
        path: The file.
    """
    folder = posixpath.dirname(path)
    base = None if trees.base is None else Directory.of(repo, trees.base, folder)
    sides = tuple(Directory.of(repo, side, folder) for side in trees.sides)
    every = sides if base is None else (*sides, base)
    if all(directory.files for directory in every) or trees.base is None:
        return MergedDirectories(path, trees, base, sides, folder)
    old, new = _renamed(repo, trees, every, folder)
    moved = [
        Directory.of(repo, rev, new if folder == old else old).at(new) if not directory.files else directory.at(new)
        for rev, directory in zip((*trees.sides, trees.base), every, strict=True)
    ]
    return MergedDirectories(posixpath.join(new, posixpath.basename(path)), trees, moved[-1], tuple(moved[:-1]), old)


def _renamed(repo: Repository, trees: MergedTrees, every: Sequence[Directory], folder: str) -> tuple[str, str]:
    """Return the old and the new path of a directory of which git finds the files to be renamed in some commits.

    Args:
        repo: The repository.
        trees: The commits.
        every: The directory in each side and in the common ancestor.
        folder: Its path, old or new.
    """
    from git_theta_ext.git.merge_tree import renames  # a driver starts without it

    assert trees.base is not None
    here = bool(every[-1].files)
    found = set()
    for side, directory in zip(trees.sides, every, strict=False):
        if bool(directory.files) == here:
            continue
        for old, new in renames(repo, trees.base, side).items():
            if posixpath.basename(old) == posixpath.basename(new):
                found.add((posixpath.dirname(old), posixpath.dirname(new)))
    pairs = {pair for pair in found if folder == pair[0 if here else 1]}
    return pairs.pop() if len(pairs) == 1 else (folder, folder)


def _has(directory: Directory | None, oid: str | None) -> bool:
    return oid is None or (directory is not None and oid in directory.files.values())
