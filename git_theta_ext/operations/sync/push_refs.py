"""Which commits a push is about, as far as git knows, and whether they have to do with parameters."""

from __future__ import annotations

from hashlib import sha256
from typing import TYPE_CHECKING

from git_theta_ext.git.revisions import head_of
from git_theta_ext.operations.sync.outgoing import RefUpdate

if TYPE_CHECKING:
    from collections.abc import Sequence

    from git_theta_ext.git.repository import Repository

_LOOKED_AT = 50
"""Commits whose attributes are looked at."""


def tracked(repo: Repository, remote: str) -> list[str]:
    """Return the commits of the remote-tracking branches of a remote."""
    if remote not in repo.config.git_remotes:
        return []
    refs = repo.run("for-each-ref", "--format=%(objectname)", f"refs/remotes/{remote}/")
    return list(dict.fromkeys(refs.decode().split()))


def tracking_updates(repo: Repository, remote: str) -> tuple[RefUpdate, ...]:
    """Return the remote-tracking branches of a remote as if they were pushed again: nothing for git, all for us."""
    return tuple(RefUpdate(oid, oid, oid, oid) for oid in tracked(repo, remote))


def history_updates(repo: Repository, remote: str, *, every: bool) -> tuple[RefUpdate, ...]:
    """Return commits of this repository as if they were pushed: HEAD's, or those of all refs that may be.

    Args:
        repo: The repository.
        remote: A git remote, whose remote-tracking branches count as well.
        every: Whether to take all branches and tags.
    """
    names = ("refs/heads/", "refs/tags/", *((f"refs/remotes/{remote}/",) if remote in repo.config.git_remotes else ()))
    if every:
        refs = repo.run("for-each-ref", "--format=%(objectname)", *names).decode().split()
    else:
        head = head_of(repo)
        refs = [] if head is None else [head]
    return tuple(RefUpdate(oid, oid, oid, oid) for oid in dict.fromkeys(refs))


def uses_theta(repo: Repository, tips: Sequence[str]) -> bool:
    """Tell whether a repository has parameters: a store, or commits that have attributes of ours."""
    if repo.theta_dir.is_dir():
        return True
    words = ("grep", "-l", "-F", "-e", "filter=theta", *tips[:_LOOKED_AT], "--", ":(top,glob)**/.gitattributes")
    return bool(tips) and bool(repo.run(*words, check=False))


def boundary(repo: Repository) -> str:
    """Tell shallow histories apart: what they end at reaches more once it is fetched."""
    try:
        return sha256((repo.common_dir / "shallow").read_bytes()).hexdigest()
    except OSError:
        return ""
