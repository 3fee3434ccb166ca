"""Git's external diff of a checkpoint; git calls it itself."""

from __future__ import annotations

from typing import TYPE_CHECKING

from git_theta_ext.git.diff_driver import run as run_driver
from git_theta_ext.git.repository import Repository

if TYPE_CHECKING:
    import argparse

EXAMPLE = "git config diff.theta.command 'git-theta diff-driver'"


def register(parser: argparse.ArgumentParser) -> None:
    """Add the command's arguments."""
    parser.add_argument("words", nargs="*", metavar="WORD", help="path, old file, old id, old mode, new file, …")


def run(args: argparse.Namespace) -> int:
    """Print the difference."""
    return run_driver(args.words, Repository.discover())
