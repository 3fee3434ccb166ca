"""A repository's store, opened as its settings say."""

from __future__ import annotations

from typing import TYPE_CHECKING

from git_theta_ext.git.notes import warn_once
from git_theta_ext.git.sharing import share
from git_theta_ext.store.store import Store

if TYPE_CHECKING:
    from git_theta_ext.git.repository import Repository


def open_store(repo: Repository) -> Store:
    """Open the store of a repository.

    Raises:
        ConfigError: ``theta.threads`` is no number.
        StoreError: The store cannot be read.
    """
    share(repo.config.values.get("core.sharedrepository", ("umask",))[-1])
    return Store(repo.theta_dir, repo.alternates(), repo.config.threads, warn_once)
