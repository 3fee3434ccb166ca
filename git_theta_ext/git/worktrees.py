"""The work trees of a repository: the main one and those that are linked to it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from git_theta_ext.git.repository import Repository

_LIST = ("worktree", "list", "--porcelain")


@dataclass(frozen=True)
class WorkTree:
    """One of them, as ``git worktree list`` describes it.

    Attributes:
        top: Its folder; that of the repository itself if that is bare.
        head: The id of its current commit, or None before the first one.
    """

    top: str
    head: str | None


def worktrees(repo: Repository) -> list[WorkTree]:
    """List the work trees, the main one first.

    Raises:
        RepositoryError: Git cannot list them.
    """
    # Paths may have line breaks; git before 2.36 has no -z.
    separator, text = "\0", repo.run(*_LIST, "-z", check=False)
    if not text:
        separator, text = "\n", repo.run(*_LIST)
    found = []
    for block in text.decode(errors="surrogateescape").split(2 * separator)[:-1]:
        facts = dict(line.partition(" ")[::2] for line in block.split(separator))
        head = facts.get("HEAD", "")
        found.append(WorkTree(facts["worktree"], head if head.strip("0") else None))
    return found
