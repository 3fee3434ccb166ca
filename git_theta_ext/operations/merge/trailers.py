"""Remove records of merges that do not apply to a commit from its message.

Rebase, cherry-pick, squash, amend and copying by hand bring messages to commits that have other parents, or another
version of the checkpoint.
"""

from __future__ import annotations

import os
from contextlib import suppress
from typing import TYPE_CHECKING

from git_theta_ext.errors import PluginError, ThetaError
from git_theta_ext.git.caller import calling_commands
from git_theta_ext.git.revisions import are_merged, parents_of
from git_theta_ext.merging.record import TRAILER
from git_theta_ext.merging.short_record import recorded_path
from git_theta_ext.model.shards import model_name
from git_theta_ext.operations.merge.record_text import MergedCommits, read_record
from git_theta_ext.util.files import replace_content

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence
    from pathlib import Path

    from git_theta_ext.git.repository import Repository

_GENERATIONS = 16
_BEGINNING = f"{TRAILER}:".encode()


def drop_untrue(repo: Repository, message: Path, words: Sequence[str], replaced: Collection[str] = ()) -> list[str]:
    """Remove trailers from the message of a commit that is being made.

    Trailers of an amended commit stay if its version of the checkpoint is staged.

    Args:
        repo: The repository.
        message: The file with the message, the hook's first argument.
        words: The hook's other arguments.
        replaced: Paths whose trailers are replaced.

    Returns:
        Paths of the checkpoints whose trailers were removed. Trailers that name no checkpoint are left out.

    Raises:
        RepositoryError: A git command failed.
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
            path = _path_of(line, amended)
            inside = path in replaced or path not in amended
            dropped += [path] if inside and path else []
        elif not line[:1].isspace() or not line.strip():
            inside = False
        kept += [] if inside else [line]
    if kept != lines:
        replace_content(message, b"".join(kept))
    return dropped


def _path_of(line: bytes, amended: dict[str, MergedCommits]) -> str:
    """Return the checkpoint of a trailer; empty if it is not the record of the amended commit."""
    with suppress(ValueError, KeyError, TypeError, ThetaError):
        text = line.partition(b":")[2].decode().strip()
        path = recorded_path(text)
        return path if path not in amended or _is_true(amended[path], text) else ""
    return ""


def _is_true(parents: MergedCommits, text: str) -> bool:
    try:
        return are_merged(parents.repo, read_record(parents, text).commits, parents.commits)
    except PluginError:
        return True  # without the plug-in it cannot be checked


def _amended(repo: Repository) -> dict[str, MergedCommits]:
    """Return the parents of the current commit, for the path of each file whose staged version it has.

    And for the name of each model of several files if it has the staged version of all of them.
    """
    parents = MergedCommits(repo, parents_of(repo, "HEAD"))
    staged = {entry.path: entry.oid for entry in repo.entries(None) if entry.stage == 0}
    committed = {entry.path: entry.oid for entry in repo.entries("HEAD")}
    changed = {path for path, _ in staged.items() ^ committed.items()}
    names = {model_name(path) for path in committed} - {model_name(path) for path in changed}
    return dict.fromkeys({*committed, *names} - changed, parents)


def _amends(words: Sequence[str]) -> bool:
    """Return whether the current commit is amended.

    The hook's arguments only name the commit whose message is used, as they also do for ``git commit -C``.
    """
    command = next(calling_commands(os.getppid(), generations=_GENERATIONS), ("",))
    if command[0] == "commit":
        return any(len(word) > len("--a") and "--amend".startswith(word) for word in command[1:])
    return list(words[:2]) == ["commit", "HEAD"]
