"""Find what a merge of branches into the current one has to merge, without merging it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from git_theta_ext.errors import RepositoryError, UsageError
from git_theta_ext.git.merge_tree import combine, common_ancestor
from git_theta_ext.git.pathspecs import is_within
from git_theta_ext.git.revisions import commit_id, head_of, merge_bases
from git_theta_ext.model.conflicts import MOST_SIDES
from git_theta_ext.operations.merge.candidates import checkpoints
from git_theta_ext.operations.merge.strategy_models import models_among
from git_theta_ext.records import dataclass

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from git_theta_ext.git.repository import Repository
    from git_theta_ext.operations.merge.candidates import CheckpointVersions
    from git_theta_ext.operations.merge.strategy_models import ModelCandidate


@dataclass(frozen=True)
class BranchMerge:
    """A merge of branches into the current one.

    Attributes:
        heads: The current commit, and those to merge into it.
        tree: The merged tree; for checkpoints that several branches changed, it has any of their versions.
        checkpoints: The checkpoints that several branches changed, except those of ``models``.
        models: The models of several files of which several branches changed a file.
        conflicts: The paths of other files in conflict.
    """

    heads: tuple[str, ...]
    tree: str
    checkpoints: tuple[CheckpointVersions, ...]
    models: tuple[ModelCandidate, ...]
    conflicts: tuple[str, ...] = ()


def merge_of_branches(repo: Repository, revisions: Sequence[str], places: Sequence[str] = ()) -> BranchMerge:
    """Find what a merge of branches into the current one merges. Neither the index nor the work tree is read.

    Args:
        repo: The repository.
        revisions: The branches.
        places: Files and directories, relative to the top; only models with a file among these are returned. All are,
            if there are none.

    Raises:
        RepositoryError: There is no such commit.
        UsageError: There are too many branches.
        ThetaError: The merge is not possible; the message says why.
    """
    head = head_of(repo)
    if head is None:
        raise RepositoryError("the current branch has no commit to merge into", hint="git commit")
    if len(revisions) >= MOST_SIDES:
        raise UsageError(
            f"{len(revisions)} branches exceed the limit of {MOST_SIDES - 1}",
            hint="git theta merge --plan BRANCH ... with fewer branches",
        )
    heads = (head, *(commit_id(repo, revision) for revision in revisions))
    ancestor, combined = common_ancestor(repo, merge_bases(repo, heads)), combine(repo, heads)
    changed = checkpoints(repo, ancestor, heads, combined.tree)
    paths = dict.fromkeys([*(c.merged.path for c in changed), *(entry.path for entry in combined.stages)])
    models = models_among(repo, ancestor, heads, paths)
    in_models = {path for model in models for path in model.paths()}
    merged = in_models.union(c.merged.path for c in changed)
    return BranchMerge(
        heads,
        combined.tree,
        tuple(c for c in changed if c.merged.path not in in_models and _is_named([c.merged.path], places)),
        tuple(m for m in models if _is_named([m.directories.name, *m.paths()], places)),
        tuple(dict.fromkeys(entry.path for entry in combined.stages if entry.path not in merged)),
    )


def _is_named(paths: Iterable[str], places: Sequence[str]) -> bool:
    return not places or any(is_within(path, place) for path in paths for place in places)
