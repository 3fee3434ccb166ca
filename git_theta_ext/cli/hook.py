"""What git's hooks call."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING

from git_theta_ext.cli.output import output_of
from git_theta_ext.cli.progress import progress
from git_theta_ext.errors import ThetaError, UsageError
from git_theta_ext.git.history import parse_updates
from git_theta_ext.git.merge_record import attach
from git_theta_ext.git.push import pre_push
from git_theta_ext.git.repository import Repository

if TYPE_CHECKING:
    import argparse
    from collections.abc import Sequence

    from git_theta_ext.cli.output import Output

EXAMPLE = 'git theta hook pre-push "$@"     # in .git/hooks/pre-push'


def register(parser: argparse.ArgumentParser) -> None:
    """Add the command's arguments."""
    parser.add_argument("name", choices=sorted(_HOOKS), help="the hook that git runs")
    parser.add_argument("words", metavar="ARGUMENT", nargs="*", help="what git gives it")


def run(args: argparse.Namespace) -> int:
    """Do what a hook is for; fails, and so stops what git is about to do, where that cannot be done."""
    return _HOOKS[args.name](output_of(args), args.words)


def _push(output: Output, words: Sequence[str]) -> int:
    """Upload what the pushed commits need."""
    if len(words) != 2:  # noqa: PLR2004 - githooks(5): name of the remote, and its address
        raise UsageError(f"pre-push takes a remote and its address, not {len(words)} words", hint=EXAMPLE)
    updates = parse_updates(sys.stdin.buffer.read().decode(errors="surrogateescape"))
    with progress("uploading parameters", 0) as advance:
        found = pre_push(Repository.discover(), words[0], words[1], updates, advance)
    for path in found.conflicted:
        output.warn(f"{path}: a merge left conflicts in a manifest that is pushed", f"git theta resolve {path}")
    return 0


def _record(output: Output, words: Sequence[str]) -> int:
    """Say in a merge's message how models were merged; a commit without that is better than none."""
    try:
        for path in attach(Repository.discover(), Path(*words[:1])):
            output.warn(f"{path}: the commit will not say how it was merged: its rules are too long")
    except ThetaError as error:
        output.warn(f"the commit will not say how models were merged: {error.message}")
    return 0


_HOOKS = {"pre-push": _push, "prepare-commit-msg": _record}
