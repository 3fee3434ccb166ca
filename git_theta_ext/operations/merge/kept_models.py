"""Keep a merged model for the later calls of the merge driver, and for ``git theta resolve``.

The files are in ``$GIT_DIR/theta/merging``, one for each model; the next merge of the model replaces it.
"""

from __future__ import annotations

import json
import os
from contextlib import suppress
from typing import TYPE_CHECKING

from blake3 import blake3

from git_theta_ext.model.bounded_json import read_json
from git_theta_ext.operations.merge.model_directories import MergedModel
from git_theta_ext.util.files import replace_content, reporting_os_errors

if TYPE_CHECKING:
    from pathlib import Path

    from git_theta_ext.git.operation import Operation
    from git_theta_ext.git.repository import Repository
    from git_theta_ext.operations.merge.model_directories import MergedDirectories
    from git_theta_ext.operations.merge.rule_sources import RuleSources

_LARGEST = 1 << 30


def versions_key(directories: MergedDirectories) -> str:
    """Return a digest of the versions of a model that are merged."""
    versions = [sorted(directories.files(d).items()) for d in (directories.base, *directories.sides)]
    return blake3(json.dumps([directories.name, versions]).encode()).hexdigest()


def rules_key(sources: RuleSources, operation: Operation) -> str:
    """Return a digest of what the rules of a merge follow from."""
    words = [sources.settings, sources.command_line, sources.environment, sources.replay]
    how = [operation.name, operation.kind, operation.favoured, operation.remade]
    return blake3(json.dumps([words, how]).encode() + (sources.file or b"")).hexdigest()


def keep(repo: Repository, versions: str, rules: str, merged: MergedModel) -> None:
    """Keep a merged model.

    Args:
        repo: The repository.
        versions: The digest of its versions.
        rules: The digest of its rules.
        merged: The model.

    Raises:
        StoreError: It cannot be written.
    """
    data = {
        "versions": versions,
        "rules": rules,
        "contents": {path: content.decode() for path, content in merged.contents.items()},
        "removed": merged.removed,
        "by_git": merged.by_git,
    }
    file = _file(repo, merged.name)
    with reporting_os_errors(file):
        file.parent.mkdir(parents=True, exist_ok=True)
        replace_content(file, json.dumps(data).encode())


def kept(repo: Repository, name: str, versions: str, rules: str | None = None) -> MergedModel | None:
    """Return a model that was kept; None if none was, or if it is of other versions or rules.

    Args:
        repo: The repository.
        name: The model.
        versions: The digest of its versions.
        rules: The digest of its rules; None for any.
    """
    with suppress(OSError, ValueError, KeyError, TypeError, AttributeError):
        file = _file(repo, name)
        if file.stat().st_size > _LARGEST:
            return None
        data = read_json(file.read_text("utf-8"))
        if data["versions"] != versions or rules not in {None, data["rules"]}:
            return None
        contents = {str(path): content.encode() for path, content in data["contents"].items()}
        return MergedModel(name, contents, tuple(map(str, data["removed"])), by_git=data["by_git"] is True)
    return None


def _file(repo: Repository, name: str) -> Path:
    return repo.git_dir / "theta" / "merging" / f"model-{blake3(os.fsencode(name)).hexdigest()[:32]}.json"
