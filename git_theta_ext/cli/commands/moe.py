"""Make a mixture of experts from dense models: their MLPs become experts, and routers choose between them.

FILE says in YAML, as a configuration of mergekit-moe, which experts there are. Models are named REV:PATH:

  base_model: "main:model"
  experts:
    - {source_model: "math:model", positive_prompts: ["solve the equation"]}
    - {source_model: "code:model", positive_prompts: ["write a function"]}
  gate_mode: cheap_embed
  experts_per_token: 2

Llama and Mistral become Mixtral, Qwen2 becomes Qwen2-MoE, and Qwen3 becomes Qwen3-MoE. What else the model has is that
of base_model, or merged by merge_method. The model, its config.json and the tokenizer of base_model are written to
DIRECTORY and staged. No expert is copied in the store. DIRECTORY/moe.yml has the models with commit ids: with it as
FILE, the command makes the same model again, or says that DIRECTORY has it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from git_theta_ext.cli.commands._new_model import SHORT, add_arguments, make
from git_theta_ext.cli.commands._yaml import yaml_text
from git_theta_ext.cli.opening import in_workspace
from git_theta_ext.comparison.words import human_bytes, plural
from git_theta_ext.merging.experts.file import COMMAND, read_mixture
from git_theta_ext.operations.experts.models import find_mixture

if TYPE_CHECKING:
    import argparse

    from git_theta_ext.cli.output import Output
    from git_theta_ext.merging.experts.file import Mixture
    from git_theta_ext.operations.stacking.make import NewModel
    from git_theta_ext.operations.workspace import Workspace

GROUP = "merge"
EXAMPLE = "git theta moe experts.yml models/mixture"


def register(parser: argparse.ArgumentParser) -> None:
    """Add the command's arguments."""
    add_arguments(parser, "the experts, in YAML")


@in_workspace
def run(output: Output, workspace: Workspace, args: argparse.Namespace) -> int:
    """Make a mixture of experts."""
    mixture = read_mixture(yaml_text(args.file, hint=f"git theta {COMMAND} -h"), str(args.file))
    model = find_mixture(workspace, mixture)
    made = make(output, workspace, args, model)
    recipe = model.recipe
    data = {
        **made.data,
        "layers": model.first.count,
        "parameters": len(model.sides[0]),
        "bytes": model.nbytes,
        "base_model": recipe.base_model,
        "experts": [expert.model for expert in recipe.experts],
        "experts_per_token": recipe.each,
        "gate_mode": recipe.gate_mode,
        "merge_method": None if recipe.choice is None else recipe.choice.words,
    }
    output.result(data, [f"{made.done}: {_summary(model)}", *_rows(recipe)])
    return 0


def _summary(model: NewModel[Mixture]) -> str:
    recipe = model.recipe
    layers, parameters = plural(model.first.count, "layer"), plural(len(model.sides[0]), "parameter")
    method = "" if recipe.choice is None else f", merged by {recipe.choice.words}"
    return (
        f"{len(recipe.experts)} experts, {recipe.each} for a token, {layers}, {parameters}, {human_bytes(model.nbytes)}"
        f"{method}"
    )


def _rows(mixture: Mixture) -> list[str]:
    def short(model: str) -> str:
        commit, _, path = model.partition(":")
        return f"{commit[:SHORT]}:{path}"

    return [f"  expert {number} from {short(expert.model)}" for number, expert in enumerate(mixture.experts)]
