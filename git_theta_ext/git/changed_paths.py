"""Find the files that commits change."""

from __future__ import annotations

from typing import TYPE_CHECKING

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
