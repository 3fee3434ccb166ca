"""Lock checkpoints, so that nobody else pushes changes of them.

Locks are on the Git LFS server of a git remote, and git-lfs sees the same ones. Either all of the files are locked or
none. A push by another user that changes a locked file is refused, if git theta or git-lfs runs before it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from git_theta_ext.cli.opening import in_workspace
from git_theta_ext.cli.output import add_options
from git_theta_ext.cli.render.locks import add_remote, lock_data
from git_theta_ext.operations.sync.file_locks import RemoteLocks
from git_theta_ext.operations.sync.lock_paths import select

if TYPE_CHECKING:
    import argparse

    from git_theta_ext.cli.output import Output
    from git_theta_ext.operations.workspace import Workspace

GROUP = "share"
EXAMPLE = "git theta lock model.safetensors"


def register(parser: argparse.ArgumentParser) -> None:
    """Add the command's arguments."""
    parser.add_argument(
        "paths",
        metavar="PATH",
        nargs="+",
        help="file, or the checkpoints in a directory or that match a quoted pattern",
    )
    add_remote(parser)
    add_options(parser)


@in_workspace
def run(output: Output, workspace: Workspace, args: argparse.Namespace) -> int:
    """Lock files. The exit code is 16 if another user has locked one of them."""
    selection = select(workspace.repo, args.paths, present=True)
    locks = RemoteLocks.open(workspace, args.remote)
    taken = locks.lock([*selection.named, *selection.matched])
    output.result(
        {"remote": locks.name, "locks": [{**lock_data(one.lock), "new": one.new} for one in taken]},
        (
            f"{workspace.repo.shown(one.lock.path)}: {'locked' if one.new else 'you have locked it already'}"
            for one in taken
        ),
    )
    return 0
