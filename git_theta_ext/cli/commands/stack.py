"""Make a model of the layers of other versions: layers of several models stacked, or merged slice by slice.

FILE says in YAML, as a configuration of mergekit, which layers there are. Models are named REV:PATH:

  slices:
    - sources: [{model: "main:model", layer_range: [0, 16]}]
    - sources: [{model: "tuned:model", layer_range: [8, 24]}]

The model, its config.json and the tokenizer of the first model are written to DIRECTORY and staged. No tensor is
copied in the store. DIRECTORY/stack.yml has the slices with commit ids: with it as FILE, the command makes the same
model again, or says that DIRECTORY has it.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

from git_theta_ext.cli.commands._yaml import yaml_text
from git_theta_ext.cli.opening import in_workspace
from git_theta_ext.cli.output import add_options
from git_theta_ext.comparison.words import human_bytes, plural
from git_theta_ext.errors import UsageError
from git_theta_ext.git.pathspecs import worktree_of
from git_theta_ext.merging.stacking.file import PASSTHROUGH, read_slices
from git_theta_ext.operations.stacking.make import check_tracked, files_of_stack, stage_stack
from git_theta_ext.operations.stacking.models import find_stacked_model

if TYPE_CHECKING:
    import argparse

    from git_theta_ext.cli.output import Output
    from git_theta_ext.git.repository import Repository
    from git_theta_ext.merging.stacking.file import Slices
    from git_theta_ext.operations.stacking.models import StackedModel
    from git_theta_ext.operations.workspace import Workspace

GROUP = "merge"
EXAMPLE = "git theta stack slices.yml models/deeper"

_SHORT = 9
"""The digits of a commit that people read."""


def register(parser: argparse.ArgumentParser) -> None:
    """Add the command's arguments."""
    parser.add_argument("file", metavar="FILE", type=Path, help="the slices, in YAML")
    parser.add_argument("directory", metavar="DIRECTORY", help="new or empty directory in the work tree")
    parser.add_argument("-n", "--dry-run", action="store_true", help="check the slices, and write nothing")
    add_options(parser)


@in_workspace
def run(output: Output, workspace: Workspace, args: argparse.Namespace) -> int:
    """StackedModel layers."""
    repo = workspace.repo
    folder = _path(repo, args.directory)
    slices = read_slices(yaml_text(args.file, hint="git theta stack -h"), str(args.file))
    stack = find_stacked_model(repo, slices)
    check_tracked(repo, stack, folder)
    if stack.first.config is not None and (keys := stack.first.config.doubtful):
        output.warning(f"config.json: {', '.join(keys)} may name layers by number, and stays as it is")
    written = not args.dry_run and stage_stack(repo, stack, files_of_stack(workspace, stack, folder), folder)
    done = "would write" if args.dry_run else "wrote" if written else "nothing to do, as it is staged already:"
    output.result(_data(stack, args, written=written), [f"{done} {args.directory}: {_summary(stack)}", *_rows(stack)])
    return 0


def _path(repo: Repository, typed: str) -> str:
    """Return a path relative to the top of the work tree."""
    top = worktree_of(repo)
    path = os.path.relpath(Path.cwd() / typed, top)
    if path.split(os.sep, maxsplit=1)[0] in {os.curdir, os.pardir, ".git"}:
        raise UsageError(f"{typed} is not a directory below {top}", hint="choose another name")
    return path


def _summary(stack: StackedModel) -> str:
    size = sum(parameter.spec.nbytes for parameter in stack.sides[0].values())
    layers, parameters = plural(stack.slices.depth, "layer"), plural(len(stack.sides[0]), "parameter")
    method = "" if stack.slices.choice is None else f", merged by {stack.slices.choice.words}"
    return f"{layers}, {parameters}, {human_bytes(size)}{method}"


def _placed(slices: Slices) -> list[tuple[range, list[dict[str, Any]]]]:
    """Return the new numbers of the layers of each slice, and where they are from."""
    placed, start = [], 0
    for sources in slices.slices:
        end = start + len(sources[0].layers)
        froms = [{"model": s.model, "layer_range": [s.layers.start, s.layers.stop]} for s in sources]
        placed.append((range(start, end), froms))
        start = end
    return placed


def _rows(stack: StackedModel) -> list[str]:
    def source(name: str, start: int, end: int) -> str:
        commit, _, path = name.partition(":")
        return f"{start}-{end - 1} of {commit[:_SHORT]}:{path}"

    return [
        f"  layers {layers.start}-{layers.stop - 1} from "
        + ", ".join(source(each["model"], *each["layer_range"]) for each in sources)
        for layers, sources in _placed(stack.slices)
    ]


def _data(stack: StackedModel, args: argparse.Namespace, *, written: bool) -> dict[str, Any]:
    return {
        "directory": args.directory,
        "dry_run": args.dry_run,
        "written": written,
        "layers": stack.slices.depth,
        "parameters": len(stack.sides[0]),
        "bytes": sum(parameter.spec.nbytes for parameter in stack.sides[0].values()),
        "merge_method": PASSTHROUGH if stack.slices.choice is None else stack.slices.choice.words,
        "slices": [
            {"layers": [layers.start, layers.stop], "sources": sources} for layers, sources in _placed(stack.slices)
        ],
    }
