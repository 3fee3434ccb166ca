"""What changes a repository in the tests of commands that remember what they saw."""

from __future__ import annotations

from helpers import MODEL, Repo


def commit(repo: Repo) -> None:
    """Commit another version."""
    repo.write_model(seed=9)
    repo.commit("another")


def stage(repo: Repo) -> None:
    """Stage another version."""
    repo.write_model(seed=8)
    repo.git("theta", "add", MODEL)


def forget_the_second_version(repo: Repo) -> None:
    """Drop the version of the tag ``two`` from refs, reflogs and git's objects."""
    repo.git("tag", "--delete", "two")
    repo.git("reset", "--quiet", "--hard", "HEAD~1")
    repo.git("reflog", "expire", "--expire=now", "--all")
    repo.git("gc", "--quiet", "--prune=now")
