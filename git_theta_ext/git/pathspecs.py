"""Turn what a user typed into paths below the top of the work tree, by git's own rules for pathspecs."""

from __future__ import annotations

import os
from pathlib import Path
from shlex import quote
from typing import TYPE_CHECKING

from git_theta_ext.errors import RepositoryError, UsageError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from git_theta_ext.git.repository import Repository

# Git's messages are told apart by their words.
_ENGLISH = {"LC_ALL": "C"}
_SKIPPED = "S"


def worktree_of(repo: Repository) -> Path:
    """Return the top of the work tree.

    Raises:
        RepositoryError: The repository is bare, or the command runs inside ``.git``.
    """
    if repo.worktree is None:
        raise RepositoryError(f"{repo.git_dir} has no work tree here", hint="run it in a work tree: git worktree list")
    return repo.worktree


def tracked_paths(repo: Repository, specs: Sequence[str], cwd: Path | None = None) -> list[str]:
    """List the files in the index that match some pathspecs; all files where there are none.

    Args:
        repo: The repository.
        specs: As typed in ``cwd``.
        cwd: The current folder where None.

    Raises:
        UsageError: One matches nothing.
        RepositoryError: There is no work tree, or one lies outside it.
    """
    return sorted(_list(repo, specs, cwd, "--cached"))


def present_paths(repo: Repository, specs: Sequence[str], cwd: Path | None = None) -> list[str]:
    """List the same files as ``tracked_paths``, but those that git keeps out of the work tree.

    Those are what lies outside a sparse checkout, and entries that ``git update-index --skip-worktree`` marked.

    Args:
        repo: The repository.
        specs: As typed in ``cwd``.
        cwd: The current folder where None.

    Raises:
        UsageError: One matches nothing.
        RepositoryError: There is no work tree, or one lies outside it.
    """
    return _present(_list(repo, specs, cwd, "--cached"))


def addable_paths(repo: Repository, specs: Sequence[str], cwd: Path | None = None) -> list[str]:
    """List the files that ``git add`` would look at: those of ``present_paths`` and those that are new and not ignored.

    Args:
        repo: The repository.
        specs: As typed in ``cwd``; at least one.
        cwd: The current folder where None.

    Raises:
        UsageError: One matches nothing, or all that they match is outside the sparse checkout.
        RepositoryError: There is no work tree, or one lies outside it.
    """
    found = _list(repo, specs, cwd, "--cached", "--others", "--exclude-standard")
    paths = _present(found)
    if found and not paths:
        first = min(found)
        folder = first.rpartition("/")[0]
        raise UsageError(
            f"{first} is outside the sparse checkout, or marked with --skip-worktree",
            hint=f"git sparse-checkout add {quote(folder)}"
            if folder
            else f"git update-index --no-skip-worktree {quote(first)}",
        )
    return paths


def _present(found: Mapping[str, str]) -> list[str]:
    return sorted(path for path, tag in found.items() if tag != _SKIPPED)


def _list(repo: Repository, specs: Sequence[str], cwd: Path | None, *kinds: str) -> dict[str, str]:
    """Return the paths with the letter that git tags each with; see git-ls-files(1)."""
    top = worktree_of(repo)
    folder = (cwd or Path.cwd()) if specs else top
    try:
        reply = repo.run(
            "ls-files", "-t", "-z", "--full-name", "--error-unmatch", *kinds, "--", *specs, cwd=folder, env=_ENGLISH
        )
    except RepositoryError as error:
        message = error.message.splitlines()[0]
        if "outside repository" in message:
            raise UsageError(message, hint=f"copy it below {top}, or go to the repository that it is in") from error
        if "did not match any file" not in message:
            raise
        message = message.replace("known to git", "here")
        raise UsageError(message, hint="git status --ignored lists what is there") from error
    # A path that a merge left undecided comes once for each stage.
    return {path: tag for tag, _, path in (line.partition(" ") for line in os.fsdecode(reply).split("\0")[:-1])}
