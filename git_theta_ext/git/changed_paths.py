"""Find the files that commits change."""

from __future__ import annotations

from typing import TYPE_CHECKING

from git_theta_ext.git.entries import TreeEntry
from git_theta_ext.git.objects import object_infos

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from git_theta_ext.git.repository import Repository


def changed_paths(repo: Repository, tips: Sequence[str], without: Iterable[str], remote: str) -> set[str]:
    """Return the paths that commits change, as opposed to those that a merge takes from one of its parents.

    Args:
        repo: The repository.
        tips: Commits, which are walked with their ancestors.
        without: Commits that are left out with their ancestors, unless they are not here.
        remote: A git remote, whose remote-tracking branches are left out as well.
    """
    excluded = object_infos(repo, (oid for oid in without if oid.strip("0")))
    revs = "".join([*(f"{oid}\n" for oid in tips), *(f"^{oid}\n" for oid in excluded)])
    by_name = ("--not", f"--remotes={remote}") if remote in repo.config.git_remotes else ()
    env = {"GIT_NO_REPLACE_OBJECTS": "1"}  # git sends the original objects
    commits = repo.run("rev-list", "--stdin", *by_name, input=revs.encode(), env=env)
    words = ("diff-tree", "--stdin", "--root", "-r", "-c", "--name-only", "--no-commit-id", "--no-renames", "-z")
    return set(repo.run(*words, input=commits, env=env).decode(errors="surrogateescape").split("\0")[:-1])


def changed_files(repo: Repository, before: str, after: str) -> dict[str, tuple[str | None, str]]:
    """Return the object ids of regular files before and after a change; None for files that it adds.

    Args:
        repo: The repository.
        before: A commit or tree.
        after: A commit or tree.

    Raises:
        RepositoryError: There is no such commit.
    """
    listed = repo.run("diff-tree", "-r", "-z", "--raw", "--no-renames", "--no-abbrev", before, after)
    fields = listed.decode(errors="surrogateescape").split("\0")[:-1]
    changed = {}
    for line, path in zip(fields[::2], fields[1::2], strict=True):
        # ":OLDMODE NEWMODE OLDOID NEWOID STATUS"
        old_mode, mode, old_oid, oid, _ = line[1:].split(" ")
        old, new = TreeEntry(path, old_oid, old_mode), TreeEntry(path, oid, mode)
        if new.regular and (old.regular or not old_oid.strip("0")):
            changed[path] = (old_oid if old.regular else None, oid)
    return changed
