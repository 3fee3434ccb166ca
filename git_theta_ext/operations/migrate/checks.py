"""Refuse to migrate a repository whose state would get lost, or would make the result wrong."""

from __future__ import annotations

import time
from itertools import islice
from typing import TYPE_CHECKING

from git_theta_ext.errors import RepositoryError
from git_theta_ext.git.install import configured
from git_theta_ext.git.revisions import branch_of
from git_theta_ext.git.worktrees import worktrees
from git_theta_ext.operations.migrate.attributes import NAME
from git_theta_ext.util.quoting import shell_word, shown_path
from git_theta_ext.util.text import shortlist

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from git_theta_ext.git.repository import Repository
    from git_theta_ext.util.reporter import Reporter

BACKUP = "refs/original/"
"""The names of refs before a migration begin so, as those that ``git filter-branch`` keeps."""

_MOST_CHECKED = 64
"""Rewritten commits that are compared with the old ones."""
_IN_PROGRESS = {
    "MERGE_HEAD": "merge",
    "CHERRY_PICK_HEAD": "cherry-pick",
    "REVERT_HEAD": "revert",
    "BISECT_LOG": "bisect",
    "rebase-merge": "rebase",
    "rebase-apply": "rebase",
    "sequencer": "cherry-pick or revert",
}
_UNFILTERED = ("-c", "filter.theta.process=", "-c", "filter.theta.required=false")
_TICK = 0.02
"""Seconds by which the clock of file times may be behind."""
_STOP = {"bisect": "git bisect reset", "cherry-pick or revert": "git cherry-pick --abort, or git revert --abort"}


def check_history(repo: Repository) -> None:
    """Raise an error if the commits are not what they seem, or if the refs of another migration are kept.

    Raises:
        RepositoryError: There are replaced or grafted commits, the clone is shallow, or ``refs/original`` exists.
    """
    if _refs(repo, BACKUP):
        raise RepositoryError(
            f"{BACKUP} keeps the history from before the last migration, and another one would replace it; "
            "check that the new history is right, then remove the old one",
            hint="git for-each-ref --format='delete %(refname)' refs/original | git update-ref --stdin",
        )
    if replaced := _refs(repo, "refs/replace/"):
        raise RepositoryError(
            f"git replaces objects here, as {replaced[0]} says; a migration would make that permanent",
            hint="git replace --list, then git replace --delete OBJECT",
        )
    if (repo.common_dir / "info" / "grafts").exists():
        raise RepositoryError(
            "commits have other parents here, as .git/info/grafts says", hint="git replace --convert-graft-file"
        )
    if (repo.common_dir / "shallow").exists():
        raise RepositoryError("this clone is shallow and lacks a part of history", hint="git fetch --unshallow")


def check_work_tree(repo: Repository) -> None:
    """Raise an error if the work tree or the index has changes, or git is in the middle of something.

    Raises:
        RepositoryError: It does; or git is not configured to use git theta.
    """
    if not configured(repo):
        raise RepositoryError("git is not configured to use git theta", hint="git theta install")
    for name, operation in _IN_PROGRESS.items():
        if (repo.git_dir / name).exists():
            hint = _STOP.get(operation, f"git {operation} --abort")
            raise RepositoryError(f"a {operation} is in progress; finish or stop it first", hint=hint)
    if repo.worktree is None:
        return
    if _changed(repo):
        # What git-theta 0.2.0 committed, checked out without it, is no manifest that the filter passes through. Git
        # filters a file again if the index was written in the same second, as after a clone.
        time.sleep(1 - time.time() % 1 + _TICK)
        repo.run(*_UNFILTERED, "update-index", "-q", "--force-write-index", "--refresh", check=False)
    if changed := _changed(repo):
        path = changed[3:].decode(errors="surrogateescape")
        raise RepositoryError(f"{shown_path(path)} has changes that are not committed", hint="git commit -a")
    if (repo.worktree / ".gitattributes").exists() and repo.entry(None, ".gitattributes") is None:
        raise RepositoryError(
            ".gitattributes is not committed", hint="git add .gitattributes && git commit -m 'Add attributes'"
        )


def check_other_work_trees(repo: Repository, refs: Iterable[str]) -> None:
    """Raise an error if another work tree has a branch checked out that is to be rewritten.

    Raises:
        RepositoryError: It does.
    """
    own = branch_of(repo)
    rewritten = {ref for ref in refs if ref != f"refs/heads/{own}"}
    for tree in worktrees(repo):
        if tree.branch in rewritten:
            raise RepositoryError(
                f"the work tree {tree.top} has {tree.branch} checked out",
                hint=f"cd {shell_word(tree.top)} && git switch --detach",
            )


def check_rewritten(repo: Repository, tips: Iterable[str], ids: Mapping[str, str]) -> None:
    """Raise an error if rewritten commits do not have the files of the old ones.

    Args:
        repo: The repository.
        tips: Old commits. The first ``_MOST_CHECKED`` are checked.
        ids: Old to new ids of commits.

    Raises:
        RepositoryError: A file is missing, is new, or has another mode.
    """
    for old in islice(tips, _MOST_CHECKED):
        before, after = ({(one.path, one.mode) for one in repo.entries(oid)} for oid in (old, ids[old]))
        for path, _ in sorted(before ^ after):
            if not path.endswith(NAME):
                raise RepositoryError(
                    f"git has not rewritten {shown_path(path)} of commit {old} as it should; no ref has changed",
                    hint="git fsck",
                )


def warn_of_stashes(repo: Repository, reporter: Reporter) -> None:
    """Say that stashes are left as they are, if there are any."""
    if _refs(repo, "refs/stash"):
        reporter.warning(
            "stashes stay as they are, based on the old history; models in them are not migrated",
            "git stash branch NAME, commit, and migrate again",
        )


def warn_of_remote_branches(repo: Repository, reporter: Reporter) -> None:
    """Say which branches of remotes have no local branch, as in a new clone, and are not rewritten."""
    for remote in repo.config.git_remotes:
        prefix = f"refs/remotes/{remote}/"
        listed = repo.run("for-each-ref", "--format=%(refname)%00%(symref)", prefix, "refs/heads/")
        refs = dict(line.split("\0") for line in listed.decode(errors="surrogateescape").splitlines())
        theirs = [name.removeprefix(prefix) for name, symref in refs.items() if name.startswith(prefix) and not symref]
        if left := [branch for branch in theirs if f"refs/heads/{branch}" not in refs]:
            reporter.warning(
                f"branches of {remote} stay as they are, because there is no local branch: {shortlist(left)}",
                f"git fetch --update-head-ok {shell_word(remote)} 'refs/heads/*:refs/heads/*'",
            )


def _changed(repo: Repository) -> bytes:
    return repo.run("status", "--porcelain", "-z", "--untracked-files=no").split(b"\0")[0]


def _refs(repo: Repository, prefix: str) -> list[str]:
    return repo.run("for-each-ref", "--count=1", "--format=%(refname)", prefix).decode(errors="replace").split()
