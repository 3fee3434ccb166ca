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

from typing import TYPE_CHECKING, Any

from git_theta_ext.cli.commands._new_model import SHORT, add_arguments, make
from git_theta_ext.cli.commands._yaml import yaml_text
from git_theta_ext.cli.opening import in_workspace
from git_theta_ext.comparison.words import human_bytes, plural
from git_theta_ext.merging.stacking.file import COMMAND, PASSTHROUGH, read_slices
from git_theta_ext.operations.stacking.models import find_stacked_model

if TYPE_CHECKING:
    import argparse

    from git_theta_ext.cli.commands._new_model import Made
    from git_theta_ext.cli.output import Output
    from git_theta_ext.merging.stacking.file import Slices
    from git_theta_ext.operations.stacking.make import NewModel
    from git_theta_ext.operations.workspace import Workspace

GROUP = "merge"
EXAMPLE = "git theta stack slices.yml models/deeper"


def register(parser: argparse.ArgumentParser) -> None:
    """Add the command's arguments."""
    add_arguments(parser, "the slices, in YAML")


@in_workspace
def run(output: Output, workspace: Workspace, args: argparse.Namespace) -> int:
    """Stack layers."""
    slices = read_slices(yaml_text(args.file, hint=f"git theta {COMMAND} -h"), str(args.file))
    stack = find_stacked_model(workspace, slices)
    made = make(output, workspace, args, stack)
    output.result(_data(stack, made), [f"{made.done}: {_summary(stack)}", *_rows(stack)])
    return 0


def _summary(stack: NewModel[Slices]) -> str:
    layers, parameters = plural(stack.recipe.depth, "layer"), plural(len(stack.sides[0]), "parameter")
    method = "" if stack.recipe.choice is None else f", merged by {stack.recipe.choice.words}"
    return f"{layers}, {parameters}, {human_bytes(stack.nbytes)}{method}"


def _placed(slices: Slices) -> list[tuple[range, list[dict[str, Any]]]]:
    """Return the new numbers of the layers of each slice, and where they are from."""
    placed, start = [], 0
    for sources in slices.slices:
        end = start + len(sources[0].layers)
        origins = [{"model": s.model, "layer_range": [s.layers.start, s.layers.stop]} for s in sources]
        placed.append((range(start, end), origins))
        start = end
    return placed


def _rows(stack: NewModel[Slices]) -> list[str]:
    def source(name: str, start: int, end: int) -> str:
        commit, _, path = name.partition(":")
        return f"{start}-{end - 1} of {commit[:SHORT]}:{path}"

    return [
        f"  layers {layers.start}-{layers.stop - 1} from "
        + ", ".join(source(each["model"], *each["layer_range"]) for each in sources)
        for layers, sources in _placed(stack.recipe)
    ]


def _data(stack: NewModel[Slices], made: Made) -> dict[str, Any]:
    return {
        **made.data,
        "layers": stack.recipe.depth,
        "parameters": len(stack.sides[0]),
        "bytes": stack.nbytes,
        "merge_method": PASSTHROUGH if stack.recipe.choice is None else stack.recipe.choice.words,
        "slices": [
            {"layers": [layers.start, layers.stop], "sources": sources} for layers, sources in _placed(stack.recipe)
        ],
    }
