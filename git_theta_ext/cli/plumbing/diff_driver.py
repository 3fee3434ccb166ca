"""Print the difference of two versions of a checkpoint; git runs this."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

from git_theta_ext.cli.output import output_to_git
from git_theta_ext.cli.process import silence
from git_theta_ext.cli.render.diff import screen_of
from git_theta_ext.comparison.text import render
from git_theta_ext.git.install import trusts_exit_code
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
    """Print the difference. The exit code is 1 if there is one and git asks for it.

    If the reader of the output is gone, as with ``| head``, git notices by itself, and would call a failure a crash.
    """
    with Workspace.discover(output_to_git(bars=False)) as workspace:
        text = _text(workspace, args.words)
        differs = bool(text) and trusts_exit_code(workspace.repo)
    try:
        sys.stdout.write(text)
        sys.stdout.flush()
    except BrokenPipeError:
        silence(sys.stdout.fileno())
    return int(differs)


def _text(workspace: Workspace, words: Sequence[str]) -> str:
    if len(words) == 1:
        return f"* Unmerged path {printable(words[0])}\n"  # as git itself
    shown = diff_versions(words, workspace)
    return "" if shown is None else render(shown, screen_of(workspace.repo))
