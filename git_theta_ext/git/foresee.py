"""What merging some branches would do to checkpoints, from manifests alone: nothing is read, merged or changed."""

from __future__ import annotations

from typing import TYPE_CHECKING

from git_theta_ext.errors import RepositoryError, UsageError
from git_theta_ext.git.merge_strategy import checkpoints, planned
from git_theta_ext.git.octopus import combine, common_ancestor
from git_theta_ext.git.revisions import head_of
from git_theta_ext.model.manifest import MOST_SIDES

if TYPE_CHECKING:
    from collections.abc import Sequence

    from git_theta_ext.git.repository import Repository
    from git_theta_ext.merging.plan import Plan


def foresee(repo: Repository, revisions: Sequence[str], words: Sequence[str]) -> dict[str, Plan]:
    """Plan the merge of some branches into the current one.

    Args:
        repo: The repository.
        revisions: What would be merged.
        words: Merge method and options that override the rules, as ``git merge -s theta -X`` takes them.

    Returns:
        Path to plan, of the checkpoints that several of them changed.

    Raises:
        RepositoryError: There is no such commit.
        ThetaError: The merge could not be done either, and why.
    """
    head = head_of(repo)
    if head is None:
        raise RepositoryError("there is no commit yet that anything could be merged into", hint="git commit")
    if len(revisions) >= MOST_SIDES:
        raise UsageError(f"{len(revisions)} branches; {MOST_SIDES - 1} are the most", hint="merge fewer at a time")
    heads = [head, *(_commit(repo, revision) for revision in revisions)]
    bases = repo.run("merge-base", "--octopus", "--all", *heads, check=False).decode().split()
    found = checkpoints(repo, common_ancestor(repo, bases), heads, combine(repo, heads).tree)
    return {path: plan for path, (_, plan) in planned(repo, found, words).items()}


def _commit(repo: Repository, revision: str) -> str:
    try:
        return repo.run("rev-parse", "--verify", "--end-of-options", f"{revision}^{{commit}}").decode().strip()
    except RepositoryError as error:
        raise RepositoryError(f"{revision}: {error.message}", hint="git branch --all lists branches") from error
