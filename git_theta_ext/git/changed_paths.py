"""Find the files that commits change."""

from __future__ import annotations

from typing import TYPE_CHECKING

from git_theta_ext.git.entries import DIRECTORY
from git_theta_ext.git.objects import object_infos

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

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


def changed_by_both(
    repo: Repository, base: str, ours: str, theirs: str, folder: str = ""
) -> Iterator[tuple[str, tuple[str | None, str, str]]]:
    """Yield the regular files that two sides changed differently, with the object ids of the versions.

    The common ancestor's id is first; it is None for files that both sides added. Only directories that both sides
    changed are read.

    Args:
        repo: The repository.
        base: The common ancestor, a commit or a tree.
        ours: Our commit or tree.
        theirs: Their commit or tree.
        folder: The directory to start at, relative to the top; empty for the top.

    Raises:
        RepositoryError: There is no such commit.
    """
    listed = repo.directories((base, ours, theirs), folder)
    before, *sides = ({entry.path: entry for entry in entries} for entries in listed)
    for path in sorted(sides[0].keys() & sides[1].keys()):
        versions = before.get(path), sides[0][path], sides[1][path]
        old, our, their = versions
        if len({None if entry is None else entry.oid for entry in versions}) < len(versions):
            continue  # git takes a version, and merges nothing
        if our.mode == their.mode == DIRECTORY:
            yield from changed_by_both(repo, base, ours, theirs, path)
        elif our.regular and their.regular and (old is None or old.regular):
            yield path, (None if old is None else old.oid, our.oid, their.oid)
