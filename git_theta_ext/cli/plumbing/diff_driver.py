"""Print the difference of two versions of a checkpoint; git runs this."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

from git_theta_ext.cli.output import output_to_git
from git_theta_ext.cli.process import silence
from git_theta_ext.cli.render.diff import screen_of
from git_theta_ext.diff.text import render
from git_theta_ext.operations.diff.driver import diff_versions
from git_theta_ext.operations.workspace import Workspace
from git_theta_ext.util.text import printable

if TYPE_CHECKING:
    import argparse
    from collections.abc import Sequence

EXAMPLE = "git config diff.theta.command 'git-theta diff-driver'"


def register(parser: argparse.ArgumentParser) -> None:
    """Add the command's arguments."""
    parser.add_argument("words", nargs="*", metavar="WORD", help="path, old file, old id, old mode, new file, …")


def run(args: argparse.Namespace) -> int:
    """Print the difference.

    If the reader of the output is gone, as with ``| head``, git notices by itself, and would call a failure a crash.
    """
    try:
        if len(args.words) == 1:
            sys.stdout.write(f"* Unmerged path {printable(args.words[0])}\n")  # as git itself
        else:
            _print_diff(args.words)
        sys.stdout.flush()
    except BrokenPipeError:
        silence(sys.stdout.fileno())
    return 0


def _print_diff(words: Sequence[str]) -> None:
    with Workspace.discover(output_to_git()) as workspace:
        shown = diff_versions(words, workspace)
        if shown is not None:
            sys.stdout.write(render(shown, screen_of(workspace.repo)))
