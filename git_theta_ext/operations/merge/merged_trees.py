"""Find the commits whose trees git merges, when it merges or replays a commit.

Git gives a merge driver one path. Files of a model that git merges without the driver are only in the trees.
"""

from __future__ import annotations

import os
import re
from typing import TYPE_CHECKING

from git_theta_ext.git.caller import calling_commands
from git_theta_ext.git.hooks import git_version
from git_theta_ext.git.revisions import find_object, head_of, merge_bases, merge_heads
from git_theta_ext.records import dataclass

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from git_theta_ext.git.operation import Operation
    from git_theta_ext.git.repository import Repository

_GENERATIONS = 16
_TWO = 2
_COMMIT = re.compile(r"\b[0-9a-f]{7,64}\b")
_MOST_BYTES = 1 << 22


@dataclass(frozen=True)
class MergedTrees:
    """Commits, or trees, that are merged.

    Attributes:
        base: The common ancestor, or the parent of a commit that is replayed; None if there is none.
        sides: The current commit, and those that are merged into it.
    """

    base: str | None
    sides: tuple[str, ...]


def candidate_trees(repo: Repository, heads: Sequence[str], operation: Operation) -> Iterator[MergedTrees]:
    """Yield what git may be merging when it calls the merge driver. The caller compares contents.

    Args:
        repo: The repository.
        heads: The current commit, and those that are merged into it.
        operation: The operation that git is performing.
    """
    if operation.kind != "merge":
        yield from trees_of_replay(repo, operation.name)
    yield from trees_of_merge(repo, heads) if len(heads) > 1 else trees_in_progress(repo)


def trees_of_merge(repo: Repository, heads: Sequence[str]) -> Iterator[MergedTrees]:
    """Yield what is merged when branches are; several if git may have merged common ancestors in either order.

    Git before 2.38 does not tell how it merges common ancestors, so nothing is yielded if there are several.

    Args:
        repo: The repository.
        heads: The current commit, and those that are merged into it.
    """
    if len(heads) < _TWO:
        return
    bases = merge_bases(repo, heads)
    if len(bases) < _TWO:
        yield MergedTrees(next(iter(bases), None), tuple(heads))
        return
    from git_theta_ext.git.merge_tree import NEEDS, common_ancestor  # a driver starts without it

    if git_version() < NEEDS:
        return
    for order in (bases, bases[::-1]):
        yield MergedTrees(common_ancestor(repo, order), tuple(heads))


def trees_of_replay(repo: Repository, name: str) -> Iterator[MergedTrees]:
    """Yield what may be merged when a command replays a commit, which git does not say. The caller compares contents.

    Args:
        repo: The repository.
        name: The command, such as ``rebase``.
    """
    for commit in _replayed(repo, name):
        yield from _replay_of(repo, commit, reverted=name == "revert")


def trees_in_progress(repo: Repository) -> Iterator[MergedTrees]:
    """Yield what may be merged by the operation that a conflict stopped."""
    head = head_of(repo)
    if heads := merge_heads(repo):
        yield from trees_of_merge(repo, [*([] if head is None else [head]), *heads])
    for ref in ("CHERRY_PICK_HEAD", "REVERT_HEAD", "REBASE_HEAD", "refs/stash"):
        commit = find_object(repo, f"{ref}^{{commit}}")
        if commit is not None:
            yield from _replay_of(repo, commit, reverted=ref == "REVERT_HEAD")


def _replay_of(repo: Repository, commit: str, *, reverted: bool) -> Iterator[MergedTrees]:
    """Yield what is merged when a commit's change from one of its parents is replayed."""
    head = head_of(repo)
    if head is None:
        return
    for parent in _parents(repo, commit):
        yield MergedTrees(commit, (head, parent)) if reverted else MergedTrees(parent, (head, commit))


def _replayed(repo: Repository, name: str) -> Iterator[str]:
    """Yield the commits that a command may be replaying: those that its state and its arguments name."""
    folder = repo.git_dir
    texts = [
        _last_line(folder / "rebase-merge" / "done"),
        _text(folder / "rebase-apply" / "original-commit"),
        _text(folder / "sequencer" / "todo").partition("\n")[0],
    ]
    names = [match[0] for text in texts for match in [_COMMIT.search(text)] if match]
    if name not in {"rebase", "am"}:
        commands = calling_commands(os.getppid(), generations=_GENERATIONS)
        words = next((words[1:] for words in commands if words[0] == name), ())
        names += [word for word in words if not word.startswith("-")]
        names += ["refs/stash"] if name == "stash" else []
    found = (find_object(repo, f"{name}^{{commit}}") for name in names)
    yield from dict.fromkeys(commit for commit in found if commit is not None)


def _parents(repo: Repository, commit: str) -> list[str]:
    listed = repo.run("rev-list", "--parents", "-n1", "--end-of-options", commit, check=False).decode().split()
    return listed[1:]


def _last_line(file: Path) -> str:
    return _text(file).rstrip().rpartition("\n")[2]


def _text(file: Path) -> str:
    try:
        with file.open(errors="replace") as opened:
            return opened.read(_MOST_BYTES)
    except OSError:
        return ""
