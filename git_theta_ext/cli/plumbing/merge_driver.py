"""Merge a checkpoint; git runs this."""

from __future__ import annotations

from contextlib import closing
from types import SimpleNamespace
from typing import TYPE_CHECKING

from git_theta_ext.cli.output import output_to_git
from git_theta_ext.git.remembering import RememberingRepository
from git_theta_ext.operations.merge.driver import run as run_driver
from git_theta_ext.operations.workspace import Workspace

if TYPE_CHECKING:
    import argparse
    from collections.abc import Sequence

EXAMPLE = "git config merge.theta.driver 'git-theta merge-driver %O %A %B %L %P'"

_WORDS = {
    "ancestor": "file with the common ancestor's version (%%O)",
    "ours": "file with our version, replaced by the result (%%A)",
    "theirs": "file with their version (%%B)",
    "size": "size of conflict markers (%%L)",
    "path": "path of the result (%%P)",
}


def register(parser: argparse.ArgumentParser) -> None:
    """Add the command's arguments."""
    for name, meaning in _WORDS.items():
        parser.add_argument(name, help=meaning)


def given(words: Sequence[str]) -> SimpleNamespace | None:
    """Return the arguments that git gives."""
    return SimpleNamespace(**dict(zip(_WORDS, words, strict=True))) if len(words) == len(_WORDS) else None


def run(args: argparse.Namespace) -> int:
    """Merge."""
    words = [getattr(args, name) for name in _WORDS]
    found = Workspace.discover(output_to_git())
    with closing(RememberingRepository.of(found.repo)) as repo, Workspace(repo, found.reporter) as workspace:
        return run_driver(words, workspace)
