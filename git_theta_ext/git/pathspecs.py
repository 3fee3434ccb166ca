"""Resolve the pathspecs that a user typed to paths below the top of the work tree, by git's own rules."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

from git_theta_ext.errors import RepositoryError, UsageError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from git_theta_ext.git.repository import Repository

# Git's messages are distinguished by their text.
_ENGLISH = {"LC_ALL": "C"}
_SKIPPED = "S"


def worktree_of(repo: Repository) -> Path:
    """Return the top of the work tree.

    Raises:
        RepositoryError: The repository is bare, or the command runs inside ``.git``.
    """
    if repo.worktree is None:
        raise RepositoryError(f"{repo.git_dir} has no work tree", hint="run it in a work tree: git worktree list")
    return repo.worktree


def is_within(path: str, place: str) -> bool:
    """Return whether a path is another one, or below it; "." is the top."""
    return place in {".", path} or path.startswith(f"{place}/")


def tracked_paths(repo: Repository, specs: Sequence[str], cwd: Path | None = None) -> list[str]:
    """List the files in the index that match pathspecs, or all files if there are none.

    Args:
        repo: The repository.
        specs: The pathspecs, relative to ``cwd``.
        cwd: A directory; the current one if None.

    Raises:
        UsageError: A pathspec matches nothing or is outside the repository.
        RepositoryError: There is no work tree.
    """
    return sorted(_list(repo, specs, cwd, "--cached"))


def present_paths(repo: Repository, specs: Sequence[str], cwd: Path | None = None) -> list[str]:
    """List the files of ``tracked_paths`` except those that git keeps out of the work tree.

    Git keeps out files outside a sparse checkout, and entries that ``git update-index --skip-worktree`` marked.

    Args:
        repo: The repository.
        specs: The pathspecs, relative to ``cwd``.
        cwd: A directory; the current one if None.

    Raises:
        UsageError: A pathspec matches nothing or is outside the repository.
        RepositoryError: There is no work tree.
    """
    return _present(_list(repo, specs, cwd, "--cached"))


def addable_paths(repo: Repository, specs: Sequence[str], cwd: Path | None = None) -> list[str]:
    """List the files that ``git add`` would look at: those of ``present_paths`` and new files that are not ignored.

    Args:
        repo: The repository.
        specs: The pathspecs, relative to ``cwd``; at least one.
        cwd: A directory; the current one if None.

    Raises:
        UsageError: A pathspec matches nothing or is outside the repository, or no match is in the sparse checkout.
        RepositoryError: There is no work tree.
    """
    tags = _list(repo, specs, cwd, "--cached", "--others", "--exclude-standard")
    paths = _present(tags)
    if tags and not paths:
        first = min(tags)
        folder = first.rpartition("/")[0]
        raise UsageError(
            f"{repo.shown(first)} is outside the sparse checkout, or marked with --skip-worktree",
            hint=f"git sparse-checkout add {repo.argument(folder)}"
            if folder
            else f"git update-index --no-skip-worktree {repo.argument(first)}",
        )
    return paths


def _present(tags: Mapping[str, str]) -> list[str]:
    return sorted(path for path, tag in tags.items() if tag != _SKIPPED)


def _list(repo: Repository, specs: Sequence[str], cwd: Path | None, *kinds: str) -> dict[str, str]:
    """Return the paths with the tag that git prints for each; see git-ls-files(1)."""
    top = worktree_of(repo)
    folder = (cwd or Path.cwd()) if specs else top
    try:
        reply = repo.run(
            "ls-files", "-t", "-z", "--full-name", "--error-unmatch", *kinds, "--", *specs, cwd=folder, env=_ENGLISH
        )
    except RepositoryError as error:
        message = error.message.splitlines()[0]
        if "outside repository" in message:
            raise UsageError(message, hint=f"copy it below {top}, or change to its repository") from error
        if "did not match any file" not in message:
            raise
        message = message.replace("known to git", "here")
        raise UsageError(message, hint="git status --ignored lists what is there") from error
    # A path in conflict is listed once for each stage.
    return {path: tag for tag, _, path in (line.partition(" ") for line in os.fsdecode(reply).split("\0")[:-1])}
