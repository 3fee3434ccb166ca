"""Find the version of a model that a user names: a checkpoint, or a directory with a model of one or several files."""

from __future__ import annotations

import os
import posixpath
from typing import TYPE_CHECKING

from git_theta_ext.checkpoint.external_data import has_external_data, is_in_chunks
from git_theta_ext.errors import FormatError, UsageError
from git_theta_ext.git.revisions import find_object, manifest_of
from git_theta_ext.model.model_version import ModelVersion
from git_theta_ext.model.shards import is_adapter
from git_theta_ext.operations.models import Directory
from git_theta_ext.statistics.sidecar import is_statistics
from git_theta_ext.util.quoting import shell_word, shown_path
from git_theta_ext.util.text import shortlist

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from pathlib import Path

    from git_theta_ext.git.repository import Repository


def find_version(repo: Repository, name: str, *, command: str, cwd: Path | None = None) -> ModelVersion:
    """Return the version of a model that ``REV:PATH`` names.

    The path is that of a checkpoint, of a directory with one model, or the name that a sharded checkpoint would have as
    one file.

    Args:
        repo: The repository.
        name: A commit and a path in it; ``:PATH`` is the index's version, and ``REV:./PATH`` is relative to ``cwd``.
        command: The user's command for hints, with ``{}`` for the name.
        cwd: Directory that relative paths start from; the current one if None.

    Raises:
        UsageError: The name is not REV:PATH, or the directory does not have exactly one model.
        RepositoryError: There is no such commit or path.
        ManifestError: The file is not a manifest.
    """
    rev, separator, typed = name.partition(":")
    path = full_path(repo, typed)
    if separator and (not rev or find_object(repo, f"{rev}^{{commit}}") is not None):
        directory = Directory.of(repo, rev or None, path)
        if directory.files:
            return _only_version(directory, name, path, command)
        beside = Directory.of(repo, rev or None, posixpath.dirname(path))
        if (path not in beside.files or is_adapter(path)) and (version := _version(beside, path, name)) is not None:
            return version
    return ModelVersion({path: manifest_of(repo, name, command=command, cwd=cwd)})


def typed_version(repo: Repository, words: Sequence[str], paths: Sequence[str] | None, *, hint: str) -> str:
    """Return the ``REV:PATH`` of a version that a user names by a path, relative to the current directory, or both.

    Args:
        repo: The repository.
        words: A commit and a path, only a path, ``REV:PATH``, or a commit if there are ``paths``.
        paths: What followed ``--``; None if there was no ``--``.
        hint: The command that explains how to name it.

    Raises:
        UsageError: It is more or less than that.
    """
    named = [*words, *(paths or ())]
    if not 1 <= len(named) <= 2 or (paths is not None and len(paths) != 1):  # noqa: PLR2004 - a commit and a path
        raise UsageError("expected a checkpoint or a directory, and at most one commit before", hint=hint)
    rev, _, typed = named[0].partition(":")
    if len(named) == 1 and paths is None and typed and find_object(repo, f"{rev}^{{commit}}") is not None:
        return named[0]
    path = named[-1]
    relative = path if repo.worktree is None or path.startswith(("./", "../")) else f"./{path}"
    return f"{named[0] if len(named) > 1 else 'HEAD'}:{relative}"


def full_path(repo: Repository, typed: str) -> str:
    """Return a path in ``REV:PATH``, in which only ``./`` and ``../`` start from the user's directory."""
    relative = typed.split("/", maxsplit=1)[0] in {".", ".."}
    path = os.path.normpath(f"{repo.prefix}{typed}" if relative else typed or ".")
    return "" if path == "." else path


def _only_version(directory: Directory, name: str, path: str, command: str) -> ModelVersion:
    sharded = [model.name for model in directory.models.values() if model.sharded]
    versions = {}
    for model in sharded or directory.models:
        version = _version(directory, model, name)
        if version is not None and not is_statistics(version.parameters):
            versions[model] = version
    owners = [posixpath.basename(model) for model, version in versions.items() if has_external_data(version.format)]
    versions = {model: version for model, version in versions.items() if not _is_data_of(model, version, owners)}
    if len(versions) == 1:
        return next(iter(versions.values()))
    if not versions:
        raise UsageError(f"{shown_path(name)} has no checkpoint that git theta tracks", hint="git theta ls-files")
    names = sorted(posixpath.relpath(model, path or ".") for model in versions)
    first = f"{name.rstrip('/')}{'' if name.endswith(':') else '/'}{names[0]}"
    raise UsageError(
        f"{shown_path(name)} has several models: {shortlist(map(shown_path, names))}",
        hint=command.replace("{}", shell_word(first)),
    )


def _version(directory: Directory, model: str, name: str) -> ModelVersion | None:
    try:
        return directory.version(model)
    except FormatError as error:
        raise FormatError(f"{shown_path(name)}: {error.message}", hint="git theta ls-files") from error


def _is_data_of(model: str, version: ModelVersion, owners: Iterable[str]) -> bool:
    """Return whether a file is the external data of a model, according to its name, such as ``model.onnx.data``."""
    name = posixpath.basename(model)
    return is_in_chunks(next(iter(version.shards.values()))) and any(
        name in {f"{owner}.data", f"{owner}_data"} for owner in owners
    )
