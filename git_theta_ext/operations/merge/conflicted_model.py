"""Resolve conflicts of a model in the work tree, whose files are resolved together."""

from __future__ import annotations

import glob
import posixpath
from bisect import bisect_left
from contextlib import suppress
from typing import TYPE_CHECKING

from git_theta_ext.errors import UsageError
from git_theta_ext.git.attributes import theta_paths
from git_theta_ext.git.path_attributes import model_names
from git_theta_ext.git.pathspecs import tracked_paths
from git_theta_ext.git.unmerged import unmerged
from git_theta_ext.model.shards import is_text, models_of
from git_theta_ext.operations.merge.conflicted_checkpoint import find_conflicts, resolve_conflicts, stage_resolved
from git_theta_ext.operations.merge.conflicted_files import together
from git_theta_ext.operations.models import indexes_in_worktree
from git_theta_ext.records import dataclass, replace

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from git_theta_ext.git.repository import Repository
    from git_theta_ext.merging.rules.rules import Choice
    from git_theta_ext.model.manifest import Manifest
    from git_theta_ext.operations.merge.conflicted_checkpoint import ConflictedCheckpoint
    from git_theta_ext.operations.workspace import Workspace


@dataclass(frozen=True)
class ConflictedModel:
    """A model with merge conflicts; a checkpoint by itself is a model of one file.

    Attributes:
        path: The path that it has, or would have, as one file.
        argument: What names it in a command: its path, or its directory if it has several files.
        chosen: Those of its files that are to be resolved.
        others: Its other files with conflicts.
        index: Path of the index that lists its parameters; None if there is none.
    """

    path: str
    argument: str
    chosen: tuple[ConflictedCheckpoint, ...]
    others: tuple[ConflictedCheckpoint, ...] = ()
    index: str | None = None

    @property
    def manifest(self) -> Manifest:
        """The parameters and conflicts of the files that are to be resolved."""
        return together([file.manifest for file in self.chosen])

    def resolved(self, workspace: Workspace, choice: Choice, patterns: Sequence[str] = ()) -> ConflictedModel:
        """Resolve conflicts by a side or a method, and write the manifests with those that remain to the work tree.

        Args:
            workspace: The repository and its store.
            choice: The side or method.
            patterns: Names or globs of parameters; empty for all of the files that are to be resolved.

        Raises:
            ThetaError: See ``git_theta_ext.operations.merge.conflicted_checkpoint.resolve_conflicts``.
        """
        if self.others and not patterns:
            # How it is resolved is recorded for the model, so its other files must be told apart by names.
            patterns = patterns_for(
                [conflict.name for conflict in self.manifest.conflicts],
                [conflict.name for file in self.others for conflict in file.manifest.conflicts],
            )
        together_with = self.others if patterns else ()
        files = resolve_conflicts(workspace, [*self.chosen, *together_with], choice, patterns, index=self.index)
        count = len(self.chosen)
        return replace(self, chosen=tuple(files[:count]), others=tuple(files[count:]) or self.others)

    def stage(self, workspace: Workspace) -> list[str]:
        """Stage and write the files without conflicts, and return their paths.

        Raises:
            ThetaError: The index or a file cannot be written, or values are missing.
        """
        done = [file for file in (*self.chosen, *self.others) if not file.manifest.conflicted]
        for file in done:
            stage_resolved(workspace, file)
        return [file.path for file in done]


def paths_in_conflict(repo: Repository, spec: str | None = None) -> list[str]:
    """Return the files of models in conflict that a pathspec matches, or the only file that it matches.

    Args:
        repo: The repository.
        spec: The pathspec; None for all files.

    Raises:
        UsageError: There are none.
    """
    paths = tracked_paths(repo, [] if spec is None else [spec])
    if spec is not None and len(paths) == 1:
        return paths
    stages = unmerged(repo)
    chosen = [path for path in paths if path in stages]
    conflicted = [*theta_paths(repo.run, chosen), *filter(is_text, chosen)]
    if not conflicted:
        where = "" if spec is None else f" in {spec}"
        raise UsageError(f"no checkpoint{where} has conflicts", hint="git theta status")
    return conflicted


def find_models(workspace: Workspace, paths: Sequence[str]) -> list[ConflictedModel]:
    """Return the models that files with conflicts belong to.

    Raises:
        UsageError: A file has no conflicts.
        ManifestError: A version is not a valid manifest.
        MissingError: The layout of a version is neither here nor on a remote.
    """
    repo = workspace.repo
    every = dict.fromkeys([*paths, *theta_paths(repo.run, unmerged(repo))])
    indexes = indexes_in_worktree(repo, sorted({posixpath.dirname(path) for path in paths}))
    found = []
    for model in models_of(every, indexes, model_names(repo.run, every)):
        chosen = tuple(find_conflicts(workspace, path) for path in model.shards if path in paths)
        index = indexes.get(model.index or "")
        if index is not None and index.fixed is not None:  # the files have names of their own
            found += [ConflictedModel(file.path, file.path, (file,)) for file in chosen]
        elif chosen:
            others = tuple(_conflicted(workspace, (path for path in model.shards if path not in paths)))
            several = model.sharded or model.name != chosen[0].path
            argument = posixpath.dirname(model.name) or "." if several and not others else chosen[0].path
            name = model.name if several else chosen[0].path
            found.append(ConflictedModel(name, argument, chosen, others, model.index))
    return found


def patterns_for(names: Iterable[str], others: Iterable[str]) -> list[str]:
    """Return few globs that match some names and none of the others: what the names begin with, up to a dot."""
    rest, patterns, covered = sorted(others), list[str](), "\0"
    for name in sorted(names):
        if name.startswith(covered):
            continue
        parts = name.split(".")
        beginnings = (".".join([*parts[:count], ""]) for count in range(1, len(parts)))
        found = next((beginning for beginning in beginnings if not _begins(rest, beginning)), None)
        covered = "\0" if found is None else found
        patterns.append(glob.escape(name) if found is None else f"{glob.escape(found)}*")
    return patterns


def _begins(names: Sequence[str], beginning: str) -> bool:
    """Return whether one of some sorted names begins with a text."""
    at = bisect_left(names, beginning)
    return at < len(names) and names[at].startswith(beginning)


def _conflicted(workspace: Workspace, paths: Iterable[str]) -> Iterable[ConflictedCheckpoint]:
    for path in paths:
        with suppress(UsageError):  # a side deleted it
            if (file := find_conflicts(workspace, path)).manifest.conflicted:
                yield file
