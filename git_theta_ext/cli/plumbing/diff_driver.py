"""Print the difference of two versions of a checkpoint; git runs this."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

from git_theta_ext.cli.process import silence
from git_theta_ext.operations.diff_driver import run as run_driver
from git_theta_ext.operations.workspace import Workspace

if TYPE_CHECKING:
    import argparse

EXAMPLE = "git config diff.theta.command 'git-theta diff-driver'"


def register(parser: argparse.ArgumentParser) -> None:
    """Add the command's arguments."""
    parser.add_argument("words", nargs="*", metavar="WORD", help="path, old file, old id, old mode, new file, …")


def run(args: argparse.Namespace) -> int:
    """Print the difference.

    If nobody reads it any more, as behind ``| head``, git finds out by itself; a failure it would call a crash.
    """
    try:
        with Workspace.discover() as workspace:
            code = run_driver(args.words, workspace)
        sys.stdout.flush()
    except BrokenPipeError:
        silence(sys.stdout.fileno())
        return 0
    return code
