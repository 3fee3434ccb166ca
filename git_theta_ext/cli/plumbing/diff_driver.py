"""Print the difference of two versions of a checkpoint; git runs this."""

from __future__ import annotations

import sys
from contextlib import suppress
from functools import cache, partial
from types import SimpleNamespace
from typing import TYPE_CHECKING

from git_theta_ext.cli.output import output_to_git
from git_theta_ext.cli.process import NAMES, silence
from git_theta_ext.cli.render.diff import screen_of
from git_theta_ext.comparison.text import render
from git_theta_ext.errors import ThetaError
from git_theta_ext.git.install import trusts_exit_code
from git_theta_ext.operations.diff.driver import diff_versions
from git_theta_ext.operations.diff.driver_ahead import compare_ahead
from git_theta_ext.operations.workspace import Workspace
from git_theta_ext.util.text import printable

if TYPE_CHECKING:
    import argparse
    from collections.abc import Sequence

    from git_theta_ext.comparison.changes import ModelChange

EXAMPLE = "git config diff.theta.command 'git-theta diff-driver'"


def register(parser: argparse.ArgumentParser) -> None:
    """Add the command's arguments."""
    parser.add_argument("words", nargs="*", metavar="WORD", help="path, old file, old id, old mode, new file, …")


def given(words: Sequence[str]) -> SimpleNamespace:
    """Return the arguments that git gives."""
    return SimpleNamespace(words=words)


def run(args: argparse.Namespace) -> int:
    """Print the difference. The exit code is 1 if there is one and git asks for it.

    If the reader of the output is gone, as with ``| head``, git notices by itself, and would call a failure a crash.
    """
    words: list[str] = args.words
    with Workspace.discover(output_to_git(bars=False)) as workspace:
        screen = cache(partial(screen_of, workspace.repo))
        asks = cache(partial(trusts_exit_code, workspace.repo))

        def answer(shown: ModelChange | None) -> tuple[str, int]:
            text = "" if shown is None else render(shown, screen())
            return text, int(bool(text) and asks())

        if len(words) == 1:
            text = f"* Unmerged path {printable(words[0])}\n"  # as git itself
            code = int(asks())
        else:
            text, code = answer(diff_versions(words, workspace))
    try:
        sys.stdout.write(text)
        sys.stdout.flush()
    except BrokenPipeError:
        silence(sys.stdout.fileno())
        return code
    if len(words) > 1:
        with suppress(ThetaError):
            compare_ahead(workspace.repo, words, lambda shown: _encoded(*answer(shown)))
    return code


def _encoded(text: str, code: int) -> tuple[bytes, int]:
    return text.encode(sys.stdout.encoding, sys.stdout.errors or NAMES), code
