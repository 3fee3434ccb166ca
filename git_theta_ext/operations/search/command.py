"""The command that evaluates candidates: it comes from the command line or the user's own settings only.

A command in a file of the repository would run whatever anyone wrote who can push to a branch.
"""

from __future__ import annotations

import os
import shlex
import shutil
from pathlib import Path
from typing import TYPE_CHECKING

from git_theta_ext.errors import ConfigError, UsageError
from git_theta_ext.git.worktrees import worktrees
from git_theta_ext.settings import MERGE_EVALUATE
from git_theta_ext.util.quoting import shell_word

if TYPE_CHECKING:
    from git_theta_ext.git.repository import Repository

PLACE = "{checkpoint}"
"""What stands for the path of the candidate in a command."""

_EXAMPLE = "--eval 'python eval.py {checkpoint}'"


def evaluation_command(repo: Repository, given: str | None) -> tuple[str, ...]:
    """Return the words of the command.

    It is run without a shell: the words are split as a shell does, and the candidate's path replaces ``{checkpoint}``
    within a word, whatever characters are in it.

    Args:
        repo: The repository, for the user's settings.
        given: The command of the command line; None for the setting ``theta.merge.evaluate``.

    Raises:
        UsageError: There is no command, its quotes do not match, it does not name the candidate, or no such program.
        ConfigError: The setting is in a file of the work tree.
    """
    text = _setting(repo) if given is None else given
    if text is None:
        raise UsageError("--search needs the command that evaluates a merged model", hint=_EXAMPLE)
    try:
        words = tuple(shlex.split(text))
    except ValueError as error:
        raise UsageError(f"the evaluation command {text!r} is not valid: {error}", hint=_EXAMPLE) from error
    if not any(PLACE in word for word in words):
        raise UsageError(f"the evaluation command {text!r} does not contain {PLACE}", hint=_EXAMPLE)
    if shutil.which(words[0]) is None:
        raise UsageError(f"the evaluation command starts {words[0]!r}, which is not a program", hint=_EXAMPLE)
    return words


def _setting(repo: Repository) -> str | None:
    """Return the setting, if it is not in a file that the repository itself may have brought."""
    listed = repo.run("config", "-z", "--show-origin", "--get-all", MERGE_EVALUATE.key, check=False)
    fields = listed.decode(errors="surrogateescape").split("\0")[:-1]
    if not fields:
        return None
    origin, value = fields[-2:]
    kind, _, name = origin.partition(":")
    if kind == "file" and _is_in_worktree(repo, Path(repo.folder, name)):
        raise ConfigError(
            f"{MERGE_EVALUATE.key} is set in {name}, a file of the work tree, which anyone with the repository can"
            " change",
            hint=f"git theta merge --search FILE --eval {shell_word(value)} BRANCH ... runs it nevertheless",
        )
    return value


def _is_in_worktree(repo: Repository, file: Path) -> bool:
    """Return whether a file is in a work tree of the repository, and not in its git directory."""
    path = os.path.realpath(file)
    own = [os.path.realpath(folder) for folder in (repo.git_dir, repo.common_dir)]
    if any(_is_below(path, folder) for folder in own):
        return False
    return any(_is_below(path, os.path.realpath(tree.top)) for tree in worktrees(repo))


def _is_below(path: str, folder: str) -> bool:
    return os.path.commonpath([path, folder]) == folder
