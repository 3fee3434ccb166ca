"""Merge what a search found to be the best, as ``git merge`` does, and record the search."""

from __future__ import annotations

import subprocess
from shlex import join, quote
from typing import TYPE_CHECKING

from git_theta_ext.comparison.words import listed
from git_theta_ext.errors import MergeError
from git_theta_ext.git.revisions import commit_id, head_of, merge_heads
from git_theta_ext.operations.merge.record import note_search
from git_theta_ext.util.text import shortlist

if TYPE_CHECKING:
    from collections.abc import Mapping

    from git_theta_ext.git.repository import Repository
    from git_theta_ext.merging.search.space import Candidate
    from git_theta_ext.operations.search.request import Request
    from git_theta_ext.operations.workspace import Workspace


_OURS = "git-theta: "
"""Begins what the strategy and the filter print. What git prints, such as that it has not committed, is left out."""


def merge_command(candidate: Candidate) -> list[str]:
    """Return the command that makes a candidate."""
    options = [word for option in candidate.words for word in ("-X", option)]
    return ["git", "merge", "--no-ff", "-s", "theta", *options, *candidate.branches]


def check_ready(repo: Repository) -> None:
    """Check that git would merge now, before hours of work.

    Raises:
        MergeError: A merge is in progress, or tracked files are changed.
        RepositoryError: There is no work tree.
    """
    if merge_heads(repo):
        raise MergeError("a merge is in progress", hint="git merge --abort, or git commit")
    changed = repo.run("status", "--porcelain", "-z", "--untracked-files=no").decode(errors="surrogateescape")
    if changed:
        raise MergeError(
            f"{changed.split(chr(0))[0][3:]} has changes that are not committed; the best merge could not be made",
            hint="git commit, or git stash",
        )


def merge_best(workspace: Workspace, request: Request, candidate: Candidate, about: Mapping[str, str]) -> str:
    """Merge a candidate, record the search, and return the id of the merge commit.

    Args:
        workspace: The repository and its store.
        request: What was searched.
        candidate: What is merged.
        about: The search, for the record.

    Raises:
        MergeError: A branch has moved since, or the merge has conflicts in other files; they are left to resolve.
    """
    repo, command = workspace.repo, merge_command(candidate)
    heads = dict(zip(request.branches, request.heads[1:], strict=True))
    moved = [branch for branch in candidate.branches if commit_id(repo, branch) != heads[branch]]
    if moved or head_of(repo) != request.heads[0]:
        raise MergeError(
            f"{(moved or ['HEAD'])[0]} has moved since the search began",
            hint="git theta merge --search FILE BRANCH ... again",
        )
    message = f"Merge {listed(list(map(quote, candidate.branches)))}"
    run = [*command[:2], "--no-commit", "--quiet", "-m", message, *command[2:]]
    environment = repo.environment() | {"LC_ALL": "C"}
    merged = subprocess.run(run, cwd=repo.folder, env=environment, capture_output=True, check=False)
    lines = (merged.stderr + merged.stdout).decode(errors="replace").splitlines()
    for line in lines:
        if line.startswith(_OURS):
            workspace.reporter.note(line.removeprefix(_OURS))
    if merged.returncode:
        conflicts = [line for line in lines if line.startswith("CONFLICT")]
        raise MergeError(
            f"the best candidate is not merged: {shortlist(conflicts or lines[-1:], 1) or join(command)}",
            hint="git status, or git merge --abort",
        )
    note_search(repo, about)
    repo.run("commit", "--quiet", "--no-edit")
    return commit_id(repo, "HEAD")
