"""What git's hooks call."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

from git_theta_ext.cli.output import output_of
from git_theta_ext.cli.progress import progress
from git_theta_ext.git.history import parse_updates
from git_theta_ext.git.push import pre_push
from git_theta_ext.git.repository import Repository

if TYPE_CHECKING:
    import argparse

EXAMPLE = 'git theta hook pre-push "$@"     # in .git/hooks/pre-push'


def register(parser: argparse.ArgumentParser) -> None:
    """Add the command's arguments."""
    parser.add_argument("name", choices=["pre-push"], help="the hook that git runs")
    parser.add_argument("remote", help="name of the remote, or its address")
    parser.add_argument("address", help="address of the remote")


def run(args: argparse.Namespace) -> int:
    """Upload what the pushed commits need; fails, and so stops the push, where that cannot be done."""
    output = output_of(args)
    updates = parse_updates(sys.stdin.buffer.read().decode(errors="surrogateescape"))
    with progress("uploading parameters", 0) as advance:
        found = pre_push(Repository.discover(), args.remote, args.address, updates, advance)
    for path in found.conflicted:
        output.warn(f"{path}: a merge left conflicts in a manifest that is pushed", f"git theta resolve {path}")
    return 0
