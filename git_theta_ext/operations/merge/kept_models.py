"""Keep a merged model for the later calls of the merge driver, and for ``git theta resolve``.

The files are in ``$GIT_DIR/theta/merging``, one for each directory; the next merge in this directory replaces it. What
is kept is found by the files of the directory in the merged commits, before any of them is read.
"""

from __future__ import annotations

import json
import os
import posixpath
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from blake3 import blake3

from git_theta_ext.model.bounded_json import read_json
from git_theta_ext.model.manifest import is_manifest
from git_theta_ext.operations.merge.model_directories import MergedModel
from git_theta_ext.util.files import replace_content, reporting_os_errors

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from git_theta_ext.git.operation import Operation
    from git_theta_ext.git.repository import Repository
    from git_theta_ext.operations.merge.model_directories import MergedDirectories
    from git_theta_ext.operations.merge.rule_sources import RuleSources

_LARGEST = 1 << 30


def rules_key(sources: RuleSources, operation: Operation) -> str:
    """Return a digest of what the rules of a merge follow from."""
    words = [sources.settings, sources.command_line, sources.environment, sources.replay]
    how = [operation.name, operation.kind, operation.favoured, operation.remade]
    return blake3(json.dumps([words, how]).encode() + (sources.file or b"")).hexdigest()


def keep(repo: Repository, directories: MergedDirectories, rules: str, merged: MergedModel) -> None:
    """Keep a merged model.

    Args:
        repo: The repository.
        directories: The directory that was merged.
        rules: The digest of its rules.
        merged: The model.

    Raises:
        StoreError: It cannot be written.
    """
    versions = _versions_key(directories)
    models = [model for model in _read(repo, directories.folder, versions) if model["name"] != merged.name]
    model = {
        "name": merged.name,
        "rules": rules,
        "contents": {path: content.decode(errors="surrogateescape") for path, content in merged.contents.items()},
        "removed": merged.removed,
        "by_git": merged.by_git,
    }
    file = _file(repo, directories.folder)
    with reporting_os_errors(file):
        file.parent.mkdir(parents=True, exist_ok=True)
        replace_content(file, json.dumps({"versions": versions, "models": [*models, model]}).encode())


def kept(repo: Repository, directories: MergedDirectories, rules: str | None = None) -> MergedModel | None:
    """Return the merged model with a file, if it was kept; None if it was not, or if it is of other versions or rules.

    Args:
        repo: The repository.
        directories: The directory that is merged, with the path of the file.
        rules: The digest of the rules; None for any.
    """
    with suppress(ValueError, KeyError, TypeError, AttributeError):
        for model in _read(repo, directories.folder, _versions_key(directories)):
            found = directories.path in model["contents"] or directories.path in model["removed"]
            if found and rules in {None, model["rules"]}:
                contents = {
                    str(path): content.encode(errors="surrogateescape") for path, content in model["contents"].items()
                }
                removed = tuple(map(str, model["removed"]))
                return MergedModel(str(model["name"]), contents, removed, by_git=model["by_git"] is True)
    return None


def is_kept(repo: Repository, name: str, files: Mapping[str, bytes]) -> bool:
    """Return whether some files are all checkpoints of a model that was merged as one, and with which git's merge ends.

    Args:
        repo: The repository.
        name: The path that the model has, or would have, as one file.
        files: Path and content of each file.
    """
    with suppress(ValueError, KeyError, TypeError, AttributeError):
        for model in _read(repo, posixpath.dirname(name)):
            if model["name"] == name and model["by_git"] is True:
                contents = {path: text.encode(errors="surrogateescape") for path, text in model["contents"].items()}
                return files == {path: content for path, content in contents.items() if is_manifest(content)}
    return False


def _versions_key(directories: MergedDirectories) -> str:
    """Return a digest of the files of a directory in the merged commits."""
    versions = [None if d is None else sorted(d.files.items()) for d in (directories.base, *directories.sides)]
    return blake3(json.dumps(versions).encode()).hexdigest()


def _read(repo: Repository, folder: str, versions: str | None = None) -> list[dict[str, Any]]:
    """Return the models that were kept for a directory, and for these versions of it; None for any versions."""
    with suppress(OSError, ValueError, KeyError, TypeError):
        file = _file(repo, folder)
        if file.stat().st_size <= _LARGEST:
            data = read_json(file.read_text("utf-8"))
            return list(data["models"]) if versions in {None, data["versions"]} else []
    return []


def _file(repo: Repository, folder: str) -> Path:
    name = blake3(os.fsencode(folder)).hexdigest()[:32]
    return repo.git_dir / "theta" / "merging" / f"models-{name}.json"
