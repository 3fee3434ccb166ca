"""What is searched: checked before hours of work, and identified by a digest of each candidate."""

from __future__ import annotations

import json
from functools import cached_property
from typing import TYPE_CHECKING, Any

from git_theta_ext.errors import UsageError
from git_theta_ext.git.revisions import commit_id, head_of, merge_bases
from git_theta_ext.merging.record import versions_of
from git_theta_ext.merging.rules.file import parse_override
from git_theta_ext.operations.merge.branches import merge_of_branches
from git_theta_ext.operations.search.target import evaluated_model
from git_theta_ext.records import dataclass

if TYPE_CHECKING:
    from collections.abc import Sequence

    from git_theta_ext.merging.search.space import Candidate, Space
    from git_theta_ext.operations.search.evaluation import Evaluation
    from git_theta_ext.operations.workspace import Workspace


@dataclass(frozen=True)
class Request:
    """What is searched.

    Attributes:
        space: What is tried.
        branches: The branches, as the user names them.
        evaluation: How candidates are evaluated.
        model: The model that is evaluated.
        heads: The current commit, and that of each branch.
        own: Whether the current branch has commits of its own.
        maximize: Whether a higher score is better.
        jobs: How many evaluations may run at the same time.
        fresh: Whether known scores do not count.
    """

    space: Space
    branches: tuple[str, ...]
    evaluation: Evaluation
    model: str
    heads: tuple[str, ...]
    own: bool
    maximize: bool = True
    jobs: int = 1
    fresh: bool = False

    @cached_property
    def identity(self) -> dict[str, Any]:
        """What all scores depend on."""
        return {"model": self.model, "head": self.heads[0], **self.evaluation.identity()}

    def digest(self, candidate: Candidate) -> str:
        """Return a digest of what a candidate is, and how it is evaluated."""
        from blake3 import blake3

        commits = dict(zip(self.branches, self.heads[1:], strict=True))
        method = parse_override("", candidate.words).method
        about = {
            **self.identity,
            "branches": [commits[branch] for branch in candidate.branches],
            "words": candidate.words,
            "versions": versions_of([method] if method else []),
        }
        return blake3(json.dumps(about, sort_keys=True).encode(errors="surrogateescape")).hexdigest()


def request_of(  # noqa: PLR0913 - the last ones are options
    workspace: Workspace,
    space: Space,
    branches: Sequence[str],
    evaluation: Evaluation,
    places: Sequence[str] = (),
    *,
    maximize: bool = True,
    jobs: int = 1,
    fresh: bool = False,
) -> Request:
    """Check what a search asks for.

    Args:
        workspace: The repository and its store.
        space: What is tried.
        branches: The branches.
        evaluation: How candidates are evaluated.
        places: Files and directories, relative to the top, among which the evaluated model is; empty for all.
        maximize: Whether a higher score is better.
        jobs: How many evaluations may run at the same time.
        fresh: Whether known scores do not count.

    Raises:
        ThetaError: The branches cannot be merged, or it is not clear which model to evaluate.
    """
    repo = workspace.repo
    if len(set(branches)) < len(branches):
        raise UsageError("a branch is named twice", hint="git theta merge --search FILE BRANCH ...")
    heads = (head_of(repo) or "", *(commit_id(repo, branch) for branch in branches))
    model = evaluated_model(repo, merge_of_branches(repo, branches), places)
    own = heads[0] not in merge_bases(repo, heads)
    return Request(space, tuple(branches), evaluation, model, heads, own, maximize, jobs, fresh)
