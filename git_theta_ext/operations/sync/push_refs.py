"""Find the commits that a push concerns, and whether they have parameters."""

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


def held_updates(repo: Repository, remote: str, address: str) -> tuple[RefUpdate, ...]:
    """Return the commits that a remote has as if they were pushed again, if it has any that are here.

    Git has nothing to send for them, but their parameters may be missing from the remote. They are those of the
    remote-tracking branches, or, before the first fetch and for an address without a name, those that the remote lists.
    """
    return tuple(RefUpdate(oid, oid, oid, oid) for oid in tracked(repo, remote) or _listed(repo, address))


def _listed(repo: Repository, address: str) -> list[str]:
    listed = repo.run("ls-remote", "--heads", "--tags", "--", address, check=False).decode(errors="replace")
    names = dict.fromkeys(line.partition("\t")[0] for line in listed.splitlines())
    kinds = repo.run("cat-file", "--batch-check", input="".join(f"{name}\n" for name in names).encode())
    return [words[0] for line in kinds.decode().splitlines() if (words := line.split())[1:2] == ["commit"]]


def history_updates(repo: Repository, remote: str, *, every: bool) -> tuple[RefUpdate, ...]:
    """Return the current commit, or the commits of all branches and tags, as if they were pushed.

    Args:
        repo: The repository.
        remote: A git remote, whose remote-tracking branches are included.
        every: Whether to include all branches and tags.
    """
    names = ("refs/heads/", "refs/tags/", *((f"refs/remotes/{remote}/",) if remote in repo.config.git_remotes else ()))
    if every:
        refs = repo.run("for-each-ref", "--format=%(objectname)", *names).decode().split()
    else:
        head = head_of(repo)
        refs = [] if head is None else [head]
    return tuple(RefUpdate(oid, oid, oid, oid) for oid in dict.fromkeys(refs))


def uses_theta(repo: Repository, tips: Sequence[str]) -> bool:
    """Return whether a repository has parameters: a store, or commits with ``filter=theta`` attributes."""
    if repo.theta_dir.is_dir():
        return True
    words = ("grep", "-l", "-F", "-e", "filter=theta", *tips[:_LOOKED_AT], "--", ":(top,glob)**/.gitattributes")
    return bool(tips) and bool(repo.run(*words, check=False))


def boundary(repo: Repository) -> str:
    """Return an identifier of where a shallow history ends: its last commits reach more once it is deepened."""
    try:
        return sha256((repo.common_dir / "shallow").read_bytes()).hexdigest()
    except OSError:
        return ""
