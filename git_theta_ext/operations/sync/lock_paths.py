"""Find the files whose locks a command is about."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

from git_theta_ext.errors import UsageError
from git_theta_ext.git.attributes import theta_paths
from git_theta_ext.git.pathspecs import tracked_paths, worktree_of
from git_theta_ext.records import dataclass
from git_theta_ext.util.quoting import shown_path

if TYPE_CHECKING:
    from collections.abc import Sequence

    from git_theta_ext.git.repository import Repository


@dataclass(frozen=True)
class Selection:
    """The files that a user named, by their paths relative to the top of the work tree.

    Attributes:
        named: Files that the user typed.
        matched: Checkpoints in directories, and that match patterns.
    """

    named: tuple[str, ...]
    matched: tuple[str, ...]


def select(repo: Repository, specs: Sequence[str], *, present: bool) -> Selection:
    """Resolve what a user typed, relative to the current directory.

    A file that is named may be any file, as for git-lfs. Of a directory only checkpoints count.

    Args:
        repo: The repository.
        specs: Files, directories and patterns.
        present: Whether a file must be in the work tree or in the index.

    Raises:
        UsageError: There is no such file, or no checkpoint in a directory.
        RepositoryError: There is no work tree.
    """
    top = worktree_of(repo)
    named, matched = list[str](), list[str]()
    for spec in specs:
        at = Path.cwd() / spec
        path = os.path.relpath(Path(os.path.realpath(at.parent), at.name), os.path.realpath(top))
        if path.split("/")[0] in {"..", ".git"}:
            raise UsageError(
                f"{spec} is not a file of the work tree", hint="git ls-files lists the files of the work tree"
            )
        found = [path] if at.is_file() or at.is_symlink() else _tracked(repo, spec, path, present=present)
        if found == [path]:
            named.append(_as_text(path))
        elif checkpoints := theta_paths(repo.run, found):
            matched += map(_as_text, checkpoints)
        else:
            raise UsageError(f"{spec} has no checkpoints", hint="git theta ls-files lists checkpoints")
    return Selection(tuple(dict.fromkeys(named)), tuple(dict.fromkeys(matched)))


def _tracked(repo: Repository, spec: str, path: str, *, present: bool) -> list[str]:
    try:
        return tracked_paths(repo, [spec])
    except UsageError:
        if present:
            raise
        return [path]  # a file that was deleted, whose lock is still there


def _as_text(path: str) -> str:
    """Return a path after checking that JSON can hold it.

    Raises:
        UsageError: It cannot.
    """
    try:
        path.encode()
    except UnicodeEncodeError as error:
        raise UsageError(
            f"{shown_path(path)}: a lock needs a name in UTF-8", hint="git mv gives the file another name"
        ) from error
    return path
