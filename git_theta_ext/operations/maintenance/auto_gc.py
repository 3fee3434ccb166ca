"""Start a garbage collection in the background if enough was added, as ``git gc --auto`` does."""

from __future__ import annotations

import subprocess
import time
from contextlib import suppress
from typing import TYPE_CHECKING

from git_theta_ext.git.process import foreign_environment

if TYPE_CHECKING:
    from pathlib import Path

    from git_theta_ext.operations.workspace import Workspace
    from git_theta_ext.store.store import Store

_LOG_COUNTS = 24 * 3600
"""Seconds for which a failure keeps the next collection from starting by itself, as in git."""


def log_path(store: Store) -> Path:
    """Return the log file in which an automatic garbage collection writes why it failed."""
    return store.root / "gc.log"


def start_if_due(workspace: Workspace) -> bool:
    """Start ``git theta gc --auto`` in the background if enough was added since the last one.

    Returns:
        Whether it was started.

    Raises:
        ConfigError: ``theta.gcAuto`` is not a number.
    """
    repo, store = workspace.repo, workspace.store
    limit = workspace.settings.gc_auto
    if not limit or store.index.loose_bytes(str(store.root)) < limit:
        return False
    with suppress(OSError):
        if time.time() - log_path(store).stat().st_mtime < _LOG_COUNTS:
            return False
    location = {"GIT_DIR": str(repo.git_dir)}
    if repo.worktree is not None:
        location["GIT_WORK_TREE"] = str(repo.worktree)
    try:
        # Independent of the user's command: it shares neither the terminal nor the index nor the pipes.
        subprocess.Popen(
            ["git", "theta", "gc", "--auto"],
            cwd=repo.folder,
            env={**foreign_environment(), **location},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )
    except OSError:
        return False
    return True
