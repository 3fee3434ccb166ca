"""The work trees of a repository: the main one and the linked ones."""

from __future__ import annotations

from typing import TYPE_CHECKING

from git_theta_ext.records import dataclass

if TYPE_CHECKING:
    from git_theta_ext.git.repository import Repository

_LIST = ("worktree", "list", "--porcelain")


@dataclass(frozen=True)
class WorkTree:
    """A work tree, as ``git worktree list`` describes it.

    Attributes:
        top: Its directory; that of the repository itself if it is bare.
        head: The id of its current commit, or None before the first one.
        branch: The full name of its branch, or None if HEAD is detached.
    """

    top: str
    head: str | None
    branch: str | None = None


def worktrees(repo: Repository) -> list[WorkTree]:
    """List the work trees, the main one first.

    Raises:
        RepositoryError: Git cannot list them.
    """
    # Paths may contain line breaks; git before 2.36 has no -z.
    separator, text = "\0", repo.run(*_LIST, "-z", check=False)
    if not text:
        separator, text = "\n", repo.run(*_LIST)
    trees = []
    for block in text.decode(errors="surrogateescape").split(2 * separator)[:-1]:
        fields = dict(line.partition(" ")[::2] for line in block.split(separator))
        head = fields.get("HEAD", "")
        trees.append(WorkTree(fields["worktree"], head if head.strip("0") else None, fields.get("branch")))
    return trees
