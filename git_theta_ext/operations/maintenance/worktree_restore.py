"""Restore lost tensors from the checkpoints in work trees, which are often the nearest good copy."""

from __future__ import annotations

import os
import stat
from pathlib import Path
from typing import TYPE_CHECKING

from git_theta_ext.checkpoint.clean import clean, describe
from git_theta_ext.errors import ThetaError
from git_theta_ext.git.attributes import theta_paths
from git_theta_ext.git.worktrees import worktrees
from git_theta_ext.model.manifest import is_manifest
from git_theta_ext.util.file_bytes import open_bytes

if TYPE_CHECKING:
    from collections.abc import Iterable
    from collections.abc import Set as AbstractSet

    from git_theta_ext.git.repository import Repository
    from git_theta_ext.model.tensor import Digest
    from git_theta_ext.operations.workspace import Workspace
    from git_theta_ext.util.file_bytes import FileBytes


def restore_from_worktrees(workspace: Workspace, paths: Iterable[str], lost: AbstractSet[Digest]) -> dict[Digest, str]:
    """Read the checkpoints of all work trees, and store those of their tensors that are lost.

    Args:
        workspace: The repository and its store.
        paths: Paths of checkpoints, relative to the top of a work tree. The files need not exist.
        lost: Digests that no verified pack holds.

    Returns:
        The file that each restored digest comes from.

    Raises:
        StoreError: The store cannot be written.
    """
    store = workspace.store
    restored: dict[Digest, str] = {}
    for top, (path, name) in (
        (tree.top, item) for tree in worktrees(workspace.repo) for item in _formats(workspace.repo, paths)
    ):
        remaining = lost - set(restored)
        data = _checkpoint(Path(top) / path) if remaining else None
        if data is None:
            continue
        try:
            described = describe(data, path, name, threads=store.threads, root=store.root)
            digests = {digest for digest, _ in described.manifest.digests()}
            if digests & remaining:
                clean(data, path, store, name)
        except ThetaError:  # another program is writing to the file, or it is no longer a checkpoint
            continue
        restored.update(
            dict.fromkeys(
                (digests & remaining) - store.touch_and_find_missing(digests & remaining), os.fspath(Path(top) / path)
            )
        )
    return restored


def _formats(repo: Repository, paths: Iterable[str]) -> list[tuple[str, str | None]]:
    wanted = sorted(set(paths))
    formats = theta_paths(repo.run, wanted)
    return [(path, formats.get(path)) for path in wanted]


def _checkpoint(path: Path) -> FileBytes | None:
    """Open a checkpoint; None if the path has no regular file, or only a manifest."""
    try:
        if not stat.S_ISREG(path.lstat().st_mode):
            return None
        data = open_bytes(path, os.fspath(path))
    except OSError:
        return None
    return None if is_manifest(data) else data
