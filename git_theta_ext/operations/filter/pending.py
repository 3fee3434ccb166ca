"""The list of checkpoints that are being written, ``$GIT_DIR/theta/pending``; it outlives an interrupted command.

A path is listed until its checkpoint is written and git's index has its stat data. Commands that run at the same time
share the list.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from git_theta_ext.model.bounded_json import read_json
from git_theta_ext.store.locks import file_lock
from git_theta_ext.util.files import replace_content, reporting_os_errors

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable
    from pathlib import Path

    from git_theta_ext.git.repository import Repository


def read_pending(repo: Repository) -> list[str]:
    """Return the paths of the checkpoints that earlier commands did not finish."""
    try:
        lines = _list_path(repo).read_text("utf-8").splitlines()
        return [path for line in lines if isinstance(path := read_json(line), str)]
    except (OSError, ValueError):
        return []


def change_pending(repo: Repository, *, add: Iterable[str] = (), drop: Collection[str] = ()) -> None:
    """Add paths to the list and remove others.

    Raises:
        StoreError: The list cannot be written.
    """
    pending = _list_path(repo)
    add = list(add)
    if not add and not pending.exists():
        return
    with reporting_os_errors(pending), file_lock(pending.with_name("pending.lock")):
        before = read_pending(repo)
        after = list(dict.fromkeys([*(path for path in before if path not in drop), *add]))
        if after == before:
            return
        if not after:
            pending.unlink()
            return
        replace_content(pending, "".join(json.dumps(path) + "\n" for path in after).encode())


def _list_path(repo: Repository) -> Path:
    return repo.git_dir / "theta" / "pending"
