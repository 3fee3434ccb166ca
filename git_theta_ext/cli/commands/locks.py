"""List locked files.

Lists the locks of a git remote, also those of git-lfs, and those of the current branch if the server keeps the locks of
each branch apart.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from git_theta_ext.cli.opening import in_workspace
from git_theta_ext.cli.output import add_options
from git_theta_ext.cli.render.locks import add_remote, lines_of, lock_data
from git_theta_ext.errors import UsageError
from git_theta_ext.operations.sync.file_locks import RemoteLocks
from git_theta_ext.operations.sync.lock_paths import select

if TYPE_CHECKING:
    import argparse

    from git_theta_ext.cli.output import Output
    from git_theta_ext.operations.workspace import Workspace

GROUP = "share"
EXAMPLE = "git theta locks --verify"


def register(parser: argparse.ArgumentParser) -> None:
    """Add the command's arguments."""
    parser.add_argument("-p", "--path", metavar="PATH", help="only the lock of this file")
    parser.add_argument("-i", "--id", metavar="ID", help="only the lock with this id")
    parser.add_argument("-l", "--limit", metavar="N", type=int, help="list at most N locks")
    parser.add_argument(
        "--verify", action="store_true", help="mark with O the locks that you own; you need write access to the remote"
    )
    add_remote(parser)
    add_options(parser)


@in_workspace
def run(output: Output, workspace: Workspace, args: argparse.Namespace) -> int:
    """List locks."""
    if args.limit is not None and args.limit < 1:
        raise UsageError("--limit must be at least 1", hint="git theta locks lists all")
    named = select(workspace.repo, [args.path], present=False).named if args.path is not None else (None,)
    if len(named) != 1:
        raise UsageError(f"{args.path} is not a file", hint="git theta locks lists the locks of all files")
    locks = RemoteLocks.open(workspace, args.remote)
    found, ours = locks.listed(path=named[0], name=args.id, limit=args.limit, verify=args.verify)
    data = [{**lock_data(lock), **({"ours": lock in ours} if args.verify else {})} for lock in found]
    lines = lines_of(found, ours if args.verify else None, workspace.repo.shown)
    output.result({"remote": locks.name, "locks": data}, lines)
    return 0
