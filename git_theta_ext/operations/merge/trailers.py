"""Take out of a commit's message what it says of merges and is not true of the commit.

A message travels further than a merge: rebase, cherry-pick, squash, amend and copies by hand bring it to commits that
have other parents, or another version of the checkpoint.
"""

from __future__ import annotations

import os
from contextlib import suppress
from typing import TYPE_CHECKING

from git_theta_ext.errors import RepositoryError
from git_theta_ext.git.caller import calling_commands
from git_theta_ext.merging.record import TRAILER
from git_theta_ext.model.bounded_json import read_json

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Sequence
    from pathlib import Path

    from git_theta_ext.git.repository import Repository

_GENERATIONS = 16
_BEGINNING = f"{TRAILER}:".encode()


def parents_of(repo: Repository, commit: str) -> list[str]:
    """Return the ids of a commit's parents, which need not be here.

    Raises:
        RepositoryError: There is no such commit.
    """
    head = repo.run("cat-file", "commit", commit).partition(b"\n\n")[0]
    return [line[7:].decode() for line in head.splitlines() if line.startswith(b"parent ")]


def are_merged(repo: Repository, commits: Iterable[str], parents: Iterable[str]) -> bool:
    """Tell whether a commit with these parents can have merged these commits.

    Git leaves out of the parents of a merge what the others contain: the current commit in a merge of branches of it.
    """
    named, there = set(commits), set(parents)
    if named <= there:
        return True
    if len(there) == 1 or not there <= named:
        return False
    try:
        contained = (f"^{parent}" for parent in there)
        return not repo.run("rev-list", "-n1", "--end-of-options", *(named - there), *contained)
    except RepositoryError:
        return False


def drop_untrue(repo: Repository, message: Path, words: Sequence[str], known: Collection[str] = ()) -> list[str]:
    """Remove trailers from the message of a commit that is about to be made.

    Those stay that the amended commit had, if its version of the checkpoint is staged.

    Args:
        repo: The repository.
        message: The file that git gave to its hook.
        words: What git gave to the hook behind that.
        known: Paths of which better is known.

    Returns:
        Paths of the checkpoints whose trailers were removed, as far as they say one.

    Raises:
        RepositoryError: Git cannot be asked.
    """
    lines = message.read_bytes().splitlines(keepends=True)
    if not any(line.startswith(_BEGINNING) for line in lines):
        return []
    amended = _amended(repo) if _amends(words) else {}
    kept: list[bytes] = []
    dropped: list[str] = []
    inside = False
    for line in lines:
        if line.startswith(_BEGINNING):
            path = _path_of(repo, line, amended)
            inside = path in known or path not in amended
            dropped += [path] if inside and path else []
        elif not line[:1].isspace() or not line.strip():
            inside = False
        kept += [] if inside else [line]
    if kept != lines:
        message.write_bytes(b"".join(kept))
    return dropped


def _path_of(repo: Repository, line: bytes, amended: dict[str, set[str]]) -> str:
    """Return the checkpoint that a trailer is about, nothing if it is not about a merge of the amended commit."""
    with suppress(ValueError, KeyError, TypeError):
        said = read_json(line.partition(b":")[2].decode())
        path, commits = str(said["path"]), set(map(str, said["commits"]))
        return path if path not in amended or are_merged(repo, commits, amended[path]) else ""
    return ""


def _amended(repo: Repository) -> dict[str, set[str]]:
    """Return the parents of the current commit, by path of each file that it has as it is staged."""
    parents = set(parents_of(repo, "HEAD"))
    staged = {(entry.path, entry.oid) for entry in repo.entries(None) if entry.stage == 0}
    return {entry.path: parents for entry in repo.entries("HEAD") if (entry.path, entry.oid) in staged}


def _amends(words: Sequence[str]) -> bool:
    """Tell whether the current commit is replaced: git only says whose message it took, and that may be a copy."""
    command = next(calling_commands(os.getppid(), generations=_GENERATIONS), ("",))
    if command[0] == "commit":
        return any(len(word) > len("--a") and "--amend".startswith(word) for word in command[1:])
    return list(words[:2]) == ["commit", "HEAD"]
