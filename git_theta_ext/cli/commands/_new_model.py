"""What the commands that make a model of other versions share."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

from git_theta_ext.cli.output import add_options
from git_theta_ext.errors import UsageError
from git_theta_ext.git.pathspecs import worktree_of
from git_theta_ext.operations.stacking.make import R, check_tracked, files_of_model, stage_model
from git_theta_ext.records import dataclass

if TYPE_CHECKING:
    import argparse

    from git_theta_ext.cli.output import Output
    from git_theta_ext.git.repository import Repository
    from git_theta_ext.operations.stacking.make import NewModel
    from git_theta_ext.operations.workspace import Workspace

SHORT = 9
"""The digits of a commit that people read."""


@dataclass(frozen=True)
class Made:
    """What was done.

    Attributes:
        done: What was done, for people.
        data: The same, for ``--json``.
    """

    done: str
    data: dict[str, Any]


def add_arguments(parser: argparse.ArgumentParser, file: str) -> None:
    """Add the arguments.

    Args:
        parser: The command's parser.
        file: What the file says.
    """
    parser.add_argument("file", metavar="FILE", type=Path, help=file)
    parser.add_argument("directory", metavar="DIRECTORY", help="new or empty directory in the work tree")
    parser.add_argument("-n", "--dry-run", action="store_true", help="check whether it can be made, and write nothing")
    add_options(parser)


def make(output: Output, workspace: Workspace, args: argparse.Namespace, model: NewModel[R]) -> Made:
    """Write and stage a model in the directory of the arguments, unless they ask for a dry run.

    Raises:
        UsageError: The directory is not in the work tree, is not tracked, or has other files.
        MergeError: The sides of the model cannot be merged.
    """
    folder = _path(workspace.repo, args.directory)
    check_tracked(workspace.repo, model, folder)
    if model.first.config is not None and (keys := model.first.config.doubtful):
        output.warning(f"config.json: {', '.join(keys)} may name layers by number, and stays as it is")
    written = not args.dry_run and stage_model(workspace.repo, model, files_of_model(workspace, model, folder), folder)
    done = "would write" if args.dry_run else "wrote" if written else "nothing to do, as it is staged already:"
    data = {"directory": args.directory, "dry_run": args.dry_run, "written": written}
    return Made(f"{done} {args.directory}", data)


def _path(repo: Repository, typed: str) -> str:
    """Return a path relative to the top of the work tree."""
    top = worktree_of(repo)
    path = os.path.relpath(Path.cwd() / typed, top)
    if path.split(os.sep, maxsplit=1)[0] in {os.curdir, os.pardir, ".git"}:
        raise UsageError(f"{typed} is not a directory below {top}", hint="choose another name")
    return path
