"""Unlock files that were locked with git theta lock or git lfs lock."""

from __future__ import annotations

from typing import TYPE_CHECKING

from git_theta_ext.cli.opening import in_workspace
from git_theta_ext.cli.output import add_options
from git_theta_ext.cli.render.locks import add_remote, lock_data
from git_theta_ext.errors import UsageError
from git_theta_ext.operations.sync.file_locks import RemoteLocks
from git_theta_ext.operations.sync.lock_paths import select
from git_theta_ext.util.text import shortlist

if TYPE_CHECKING:
    import argparse

    from git_theta_ext.cli.output import Output
    from git_theta_ext.operations.workspace import Workspace

GROUP = "share"
EXAMPLE = "git theta unlock model.safetensors"


def register(parser: argparse.ArgumentParser) -> None:
    """Add the command's arguments."""
    parser.add_argument(
        "paths",
        metavar="PATH",
        nargs="*",
        help="file, or the locked checkpoints in a directory or that match a pattern",
    )
    parser.add_argument("-i", "--id", metavar="ID", help="unlock the file whose lock has this id")
    parser.add_argument(
        "-f", "--force", action="store_true", help="also if another user has locked it, or changes are not committed"
    )
    add_remote(parser)
    add_options(parser)


@in_workspace
def run(output: Output, workspace: Workspace, args: argparse.Namespace) -> int:
    """Unlock files. The exit code is 16 if another user has locked one of them."""
    if bool(args.paths) == (args.id is not None):
        raise UsageError(
            "either paths or an id must be given", hint="git theta unlock PATH, or git theta unlock --id ID"
        )
    if args.id is None:
        selection = select(workspace.repo, args.paths, present=False)
        locks = RemoteLocks.open(workspace, args.remote)
        removed = locks.unlock(selection, force=args.force)
    else:
        locks = RemoteLocks.open(workspace, args.remote)
        removed = locks.unlock_by_id(args.id, force=args.force)
    output.result(
        {"remote": locks.name, "locks": [lock_data(lock) for lock in removed]},
        (f"{workspace.repo.shown(lock.path)}: unlocked" for lock in removed),
    )
    if unpushed := locks.unpushed(removed):
        shown = shortlist(map(workspace.repo.shown, unpushed))
        output.warning(f"commits that change {shown} are not on {locks.name} yet", "git push")
    return 0
