"""Run git, and the environment variables that tie git processes to a repository or to git theta."""

from __future__ import annotations

import os
import subprocess
from typing import TYPE_CHECKING, Protocol

from git_theta_ext.errors import RepositoryError

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from typing_extensions import Buffer

# The output of `git rev-parse --local-env-vars`: these variables tie a process to one repository.
LOCAL_VARIABLES = (
    "GIT_ALTERNATE_OBJECT_DIRECTORIES",
    "GIT_CONFIG",
    "GIT_CONFIG_PARAMETERS",
    "GIT_CONFIG_COUNT",
    "GIT_OBJECT_DIRECTORY",
    "GIT_DIR",
    "GIT_WORK_TREE",
    "GIT_IMPLICIT_WORK_TREE",
    "GIT_GRAFT_FILE",
    "GIT_INDEX_FILE",
    "GIT_NO_REPLACE_OBJECTS",
    "GIT_REPLACE_REF_BASE",
    "GIT_PREFIX",
    "GIT_SHALLOW_FILE",
    "GIT_COMMON_DIR",
    "GIT_INTERNAL_SUPER_PREFIX",
)
NESTED = "GIT_THETA_NESTED"
"""Set for git commands that we run while we finish ours: a filter that they start has nothing to finish itself.

And for merges that we run to find out what git merges: a driver that they start merges one file.
"""
FILTER_RECEIVED, FILTER_ANSWERED = "GIT_THETA_FILTER_RECEIVED", "GIT_THETA_FILTER_ANSWERED"
"""Variables that tell the filter what a shell has done of its work; see ``operations.merge.checkout_script``."""
FINISHED_LATER = "GIT_THETA_FINISHED_LATER"
"""Set for git commands whose conflicts our merge strategy will look at: a filter need not report them."""
SKIP_SMUDGE = "GIT_THETA_SKIP_SMUDGE"
"""If set, checkouts leave manifests in the work tree; see ``skips_smudge``."""
MERGE_OPTIONS = "GIT_THETA_MERGE"
"""Overrides the merge rules in the processes that git starts: a method, and options as ``NAME=VALUE``."""


class RunGit(Protocol):
    """Runs git with arguments and input in a work tree, and returns its output."""

    def __call__(self, *args: str, input: Buffer | None = None, check: bool = True) -> bytes: ...  # noqa: A002, D102 - as subprocess.run


def skips_smudge() -> bool:
    """Return whether the environment says that checkouts leave manifests in the work tree."""
    return os.environ.get(SKIP_SMUDGE, "").lower() not in {"", "0", "false", "no", "off"}


def foreign_environment() -> dict[str, str]:
    """Return the environment without the variables that tie git to the current repository."""
    return {name: value for name, value in os.environ.items() if name not in LOCAL_VARIABLES}


def run_git(
    args: tuple[str, ...],
    *,
    cwd: Path | None = None,
    data: Buffer | None = None,
    env: Mapping[str, str] | None = None,
    ok: tuple[int, ...] | None = (0,),
) -> bytes:
    """Run git and return what it prints.

    Args:
        args: The arguments after ``git``.
        cwd: The directory to run it in.
        data: Its standard input; empty if None.
        env: The whole environment; that of this process if None.
        ok: Exit codes that are not errors; None for all.

    Raises:
        RepositoryError: Git is not installed, or it failed; the message is git's.
    """
    try:
        done = subprocess.run(
            ["git", *args], cwd=cwd, input=b"" if data is None else data, env=env, capture_output=True, check=False
        )
    except FileNotFoundError as error:
        if cwd is not None and not cwd.is_dir():
            raise RepositoryError(f"the directory {cwd} does not exist") from error
        raise RepositoryError("git is not on PATH", hint="install git 2.31 or later") from error
    if ok is not None and done.returncode not in ok:
        raise RepositoryError(error_of(done.stderr, " ".join(args[:2]), done.returncode))
    return done.stdout


def error_of(stderr: bytes, command: str, code: int) -> str:
    """Return the message of a git command that failed.

    Args:
        stderr: What it printed on standard error.
        command: What git was asked for.
        code: Its exit code.
    """
    words = stderr.decode(errors="surrogateescape").strip()
    return words.removeprefix("fatal: ").removeprefix("error: ") or f"git {command} failed with exit code {code}"
