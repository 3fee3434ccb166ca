"""Merge several branches file by file in git's object database, without changing the work tree or the index.

``git merge-tree`` merges the branches one after another, and finds renames and virtual ancestors as ``git merge`` does.
The intermediate commits are unreachable; ``git gc`` removes them.
"""

from __future__ import annotations

import os
import shutil
import tempfile
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING

from git_theta_ext.errors import MergeError
from git_theta_ext.git.entries import index_entry, update_index
from git_theta_ext.git.hooks import git_version
from git_theta_ext.git.process import MERGE_OPTIONS, NESTED, run_git
from git_theta_ext.git.revisions import commit_id, find_object
from git_theta_ext.git.temporary_index import temporary_index
from git_theta_ext.records import dataclass
from git_theta_ext.util.quoting import shell_word, shown_path

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from git_theta_ext.git.entries import TreeEntry
    from git_theta_ext.git.repository import Repository

NEEDS = (2, 38)
"""The first version of git whose ``merge-tree`` performs real merges."""

# Replaces the merge driver if checkpoints are merged afterwards, all sides at once. It keeps our side unchanged.
_KEEP_OURS = ("-c", "merge.theta.driver=true")
PLACEHOLDER = b"merged by the driver\n"
_PUT_PLACEHOLDER = ("-c", f"merge.theta.driver=echo '{PLACEHOLDER.decode().strip()}' >%A")
# Temporary commits must not depend on the user's identity, nor fail if no identity is configured.
_IDENTITY = {
    f"GIT_{role}_{what}": value
    for role in ("AUTHOR", "COMMITTER")
    for what, value in (("NAME", "git-theta"), ("EMAIL", "git-theta@localhost"), ("DATE", "@0 +0000"))
}
_QUIET = "Auto-merging"


@dataclass(frozen=True)
class Combined:
    """The result of merging the files of several branches.

    Attributes:
        tree: Object id of the merged tree. Text in conflict has conflict markers in it.
        clean: Whether there are no conflicts.
        stages: The versions of each path in conflict, as index entries.
        messages: Git's messages about the conflicts.
    """

    tree: str
    clean: bool = True
    stages: tuple[TreeEntry, ...] = ()
    messages: tuple[str, ...] = ()


def combine(repo: Repository, commits: Sequence[str]) -> Combined:
    """Merge the files of several commits.

    If several commits changed a checkpoint, the merged tree may have any of its versions.

    Args:
        repo: The repository.
        commits: The current commit, and two or more that are merged into it in this order.

    Returns:
        The result; only the merge of the last commit may have conflicts.

    Raises:
        MergeError: The merge of an earlier commit has conflicts, or git is too old.
        RepositoryError: Git cannot merge them.
    """
    if git_version() < NEEDS:
        raise MergeError(
            "merging several branches at a time needs git 2.38", hint="git merge BRANCH for one after another"
        )
    tip, *others = commits
    for number, other in enumerate(others, 1):
        with _as_head(repo, tip) as env:
            ours = _name_of(repo, "HEAD", tip, env)
            name = _name_of(repo, os.environ.get(f"GITHEAD_{other}", other), other, env)
            merged = _merge(repo, ours, name, settings=_KEEP_OURS, env=env)
        if number == len(others):
            break
        if not merged.clean:
            where = f" in {shown_path(merged.stages[0].path)}" if merged.stages else ""
            raise MergeError(
                f"{name} conflicts with the branches before it{where}; only the last branch may conflict",
                hint=f"name it last, or merge it by itself: git merge {shell_word(name)}",
            )
        tip = _commit(repo, merged.tree, (tip, other))
    return merged


def predict(repo: Repository, base: str | None, ours: str, theirs: str) -> Combined:
    """Merge the files of two commits as git does, with PLACEHOLDER as the content of what the merge driver merges.

    Args:
        repo: The repository.
        base: Their common ancestor, or the commit that counts as it when another one is replayed.
        ours: The current commit.
        theirs: The commit that is merged into it, or replayed.

    Raises:
        MergeError: Git is too old.
        RepositoryError: Git cannot merge them.
    """
    if git_version() < NEEDS:
        raise MergeError("predicting what git merges needs git 2.38", hint="git theta resolve")
    ancestor = [] if base is None else [_commit(repo, f"{base}^{{tree}}", ())]
    one, other = (_commit(repo, f"{side}^{{tree}}", ancestor) for side in (ours, theirs))
    return _merge(repo, one, other, settings=_PUT_PLACEHOLDER, env={MERGE_OPTIONS: "conflict"})


def common_ancestor(repo: Repository, bases: Sequence[str]) -> str | None:
    """Return one commit for several best common ancestors, merged as git merges them in a criss-cross merge.

    Args:
        repo: The repository.
        bases: The ancestors.

    Raises:
        MergeError: There are several, and git is too old.
        RepositoryError: Git cannot merge them.
    """
    if not bases:
        return None
    tip, *others = bases
    if others and git_version() < NEEDS:
        raise MergeError("merging several common ancestors needs git 2.38", hint="git merge BRANCH, without a strategy")
    for other in others:
        # Its checkpoints are not merged, and it may contain conflicts, as git's own virtual ancestors do.
        tip = _commit(repo, _merge(repo, tip, other, env={MERGE_OPTIONS: "conflict"}).tree, (tip, other))
    return tip


def renames(repo: Repository, before: str, after: str) -> dict[str, str]:
    """Return the files that were renamed between two commits, as old path to new path."""
    text = repo.run("diff-tree", "-r", "-M", "-z", "--name-status", "--diff-filter=R", before, after)
    fields = text.decode(errors="surrogateescape").split("\0")[:-1]
    return dict(zip(fields[1::3], fields[2::3], strict=True))


def with_files(repo: Repository, tree: str, entries: Sequence[TreeEntry]) -> str:
    """Return the id of a tree in which some files are replaced.

    Raises:
        RepositoryError: Git does not have the tree or the contents.
    """
    if not entries:
        return tree
    with temporary_index(repo, tree) as run:
        update_index(run, entries)
        return run("write-tree").decode().strip()


@contextmanager
def _as_head(repo: Repository, commit: str) -> Iterator[dict[str, str]]:
    """Yield an environment in which HEAD is a given commit: conflict markers and messages call our side HEAD."""
    with tempfile.TemporaryDirectory(prefix="git-theta-") as folder:
        # The files of a linked work tree (gitrepository-layout(5)).
        Path(folder, "HEAD").write_text(commit_id(repo, commit) + "\n")
        Path(folder, "commondir").write_bytes(os.fsencode(repo.common_dir) + b"\n")
        with suppress(FileNotFoundError):
            shutil.copy(repo.git_dir / "config.worktree", folder)
        env = {"GIT_DIR": folder, "GIT_INDEX_FILE": str(repo.index_path)}
        yield env | ({} if repo.worktree is None else {"GIT_WORK_TREE": str(repo.worktree)})


def _name_of(repo: Repository, name: str, commit: str, env: Mapping[str, str]) -> str:
    """Return a commit's name for messages and conflict markers, or its id if the name does not resolve to it."""
    if name.startswith("-"):
        return commit
    return name if find_object(repo, f"{name}^{{commit}}", env=env) == commit else commit


def _commit(repo: Repository, tree: str, parents: Sequence[str]) -> str:
    words = [word for parent in parents for word in ("-p", parent)]
    return repo.run("commit-tree", *words, "-m", "temporary", tree, env=_IDENTITY).decode().strip()


def _merge(
    repo: Repository, ours: str, theirs: str, *, settings: Sequence[str] = (), env: Mapping[str, str] | None = None
) -> Combined:
    # Git checks whether unrelated histories may be merged before it calls a strategy.
    args = (*settings, "merge-tree", "--write-tree", "-z", "--allow-unrelated-histories", ours, theirs)
    # Exit code 1: there are conflicts.
    # A driver that looked for the common ancestor, as we do here, would do so again without end.
    answer = run_git(args, cwd=repo.folder, env={**repo.environment(), NESTED: "1", **(env or {})}, ok=(0, 1))
    tree, *fields = answer.decode(errors="surrogateescape").split("\0")[:-1]
    if not fields:  # the other fields follow only if there are conflicts
        return Combined(tree)
    cut = fields.index("")
    stages = tuple(map(index_entry, fields[:cut]))
    return Combined(tree, clean=False, stages=stages, messages=tuple(_messages(fields[cut + 1 :])))


def _messages(fields: Sequence[str]) -> list[str]:
    """Parse groups of a number, that many paths, a kind and a text."""
    texts = []
    rest = iter(fields)
    for count in rest:
        for _ in range(int(count)):
            next(rest)
        kind, text = next(rest), next(rest)
        if kind != _QUIET:
            texts.append(text.rstrip("\n"))
    return texts
