"""Read the commits that change files, also under the names that these had before they were renamed."""

from __future__ import annotations

from typing import TYPE_CHECKING

from git_theta_ext.git.commit_log import read_log
from git_theta_ext.records import replace

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from git_theta_ext.git.commit_log import Commit
    from git_theta_ext.git.repository import Repository

_EVERYTHING = "--all"


def read_followed_log(  # noqa: PLR0913 - named, and what a log is made of
    repo: Repository,
    limits: Sequence[str],
    revisions: Sequence[str],
    paths: Sequence[str],
    *,
    trailer: str = "",
    cwd: Path | None = None,
) -> Iterator[Commit]:
    """Yield commits as ``git log --follow`` does, but of several files, or of directories.

    A commit that renames one of the files ends the walk of its new name, and begins one of the old name at its parents.

    Args:
        repo: The repository.
        limits: Options that select commits.
        revisions: Revisions.
        paths: Pathspecs; at least one.
        trailer: As for ``read_log``.
        cwd: As for ``read_log``.

    Raises:
        RepositoryError: Git refuses the words; the message is git's.
    """
    followed: set[str] = set()
    seen: set[str] = set()
    words = [*limits, *revisions, "--", *paths]
    while words:
        before: dict[str, None] = {}
        parents: dict[str, None] = {}
        for found in read_log(repo, words, trailer=trailer, cwd=cwd):
            commit = _with_renames(repo, found)
            for file in commit.files:
                if file.old_path != file.path and file.old_path not in followed:
                    before[file.old_path] = None
                    parents.update(dict.fromkeys(commit.parents))
            if commit.oid not in seen:
                seen.add(commit.oid)
                yield commit
        followed.update(before)
        specs = [f":(top,literal){path}" for path in before]
        words = [*(word for word in limits if word != _EVERYTHING), *parents, "--", *specs] if specs else []


def _with_renames(repo: Repository, commit: Commit) -> Commit:
    """Return a commit with the old names of the files that seem to be new, as their old names are no pathspec's."""
    if len(commit.parents) != 1 or not any(file.new and not any(file.old) for file in commit.files):
        return commit
    paths = {file.path for file in commit.files}
    whole = next(read_log(repo, ["-n1", commit.oid]), commit)
    renamed = {file.path: file for file in whole.files if file.path in paths and file.old_path != file.path}
    return replace(commit, files=tuple(renamed.get(file.path, file) for file in commit.files))
