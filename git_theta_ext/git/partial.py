"""Partial clones: git fetches missing objects on demand, one by one, from promisor remotes."""

from __future__ import annotations

from typing import TYPE_CHECKING

from git_theta_ext.config import parse_bool

if TYPE_CHECKING:
    from collections.abc import Sequence

    from git_theta_ext.git.repository import Repository

_ROUNDS = 64
"""Maximum depth of directories: if the clone lacks trees as well, each round fetches one level."""


def is_partial(repo: Repository) -> bool:
    """Return whether git fetches missing objects of this repository on demand, one by one."""
    return bool(promising_remotes(repo))


def promising_remotes(repo: Repository) -> list[str]:
    """Return the names of the remotes that have the objects that a partial clone lacks."""
    config = repo.config
    old = config.values.get("extensions.partialclone", (None,))[-1]  # up to git 2.24
    promisor = {name: config.values.get(f"remote.{name}.promisor", ("false",))[-1] for name in config.git_remotes}
    return [name for name, value in promisor.items() if name == old or parse_bool(value)]


def bring_history(repo: Repository, tips: Sequence[str]) -> None:
    """Fetch, many at a time, all objects that commits reach and that a partial clone lacks.

    Raises:
        RepositoryError: Git cannot fetch them.
    """
    for _ in range(_ROUNDS):
        revs = "".join(f"{tip}\n" for tip in tips).encode()
        listed = repo.run("rev-list", "--objects", "--no-object-names", "--missing=print", "--stdin", input=revs)
        missing = [line[1:] for line in listed.decode().splitlines() if line.startswith("?")]
        remotes = promising_remotes(repo)
        if not missing or not remotes:
            return
        # Git itself uses these options. Without "noop" the server assumes that the objects of local commits are here.
        words = ("--no-tags", "--no-write-fetch-head", "--recurse-submodules=no", "--filter=blob:none", "--stdin")
        wanted = "".join(f"{oid}\n" for oid in missing).encode()
        repo.run("-c", "fetch.negotiationAlgorithm=noop", "fetch", *words, "--", remotes[0], input=wanted, check=False)
        # Objects that the server did not send are fetched one by one.
        repo.run("cat-file", "--batch-check", input=wanted)
