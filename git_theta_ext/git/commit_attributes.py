"""Git's attributes of the paths in a commit."""

from __future__ import annotations

from typing import TYPE_CHECKING

from git_theta_ext.git.attributes import theta_paths
from git_theta_ext.git.temporary_index import temporary_index

if TYPE_CHECKING:
    from collections.abc import Iterable

    from git_theta_ext.git.repository import Repository


def theta_paths_at(repo: Repository, rev: str, paths: Iterable[str]) -> list[str]:
    """Return the paths that have ``filter=theta`` according to the attributes in a commit.

    This works in bare repositories too. Attributes of the work tree are ignored, those of ``info/attributes`` apply.

    Raises:
        RepositoryError: There is no such commit.
    """
    wanted = list(paths)
    if not wanted:
        return []
    # `check-attr --source` requires git 2.40; a temporary index works in all versions.
    with temporary_index(repo, rev) as run:
        return list(theta_paths(run, wanted, cached=True))
