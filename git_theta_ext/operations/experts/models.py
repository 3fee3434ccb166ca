"""Decide which parameters a mixture of experts has, and compute those that no model has."""

from __future__ import annotations

from typing import TYPE_CHECKING

from git_theta_ext.errors import MergeError
from git_theta_ext.merging.experts.file import COMMAND
from git_theta_ext.merging.experts.layers import DenseLayers
from git_theta_ext.merging.experts.layouts import DOWN, UP, layout_for
from git_theta_ext.merging.experts.routers import drawn, embedded
from git_theta_ext.model.floats import from_float, is_real
from git_theta_ext.model.manifest import Parameter
from git_theta_ext.model.tensor import TensorSpec, tensor_digest
from git_theta_ext.operations.experts.prompts import prompt_tokens, token_rows, with_tokens
from git_theta_ext.operations.stacking.make import NewModel
from git_theta_ext.operations.stacking.source import SourceModel, check_alike, check_specs
from git_theta_ext.registry import find_merge

if TYPE_CHECKING:
    from git_theta_ext.merging.experts.file import Mixture
    from git_theta_ext.operations.workspace import Workspace

    Made = dict[str, tuple[TensorSpec, bytes]]

_HINT = f"git theta {COMMAND} -h"


def find_mixture(workspace: Workspace, mixture: Mixture) -> NewModel[Mixture]:
    """Read the models that become experts, and make the routers of their mixture.

    Raises:
        UsageError: A name is not REV:PATH.
        RepositoryError: There is no such commit or path.
        MergeError: No mixture has these layers, layers of the models do not fit together, or a prompt has no token.
        LibraryError: Prompts are texts, and the library that reads them is not installed.
        MissingError: The embedding that prompts need is neither here nor on a remote.
    """
    models = {name: SourceModel.find(workspace.repo, name, COMMAND) for name in mixture.models}
    base = models[mixture.base_model]
    layers = DenseLayers(layout_for(base.config, mixture.base_model), base.stack, base.count)
    for name, model in models.items():
        check_alike(mixture.base_model, base, name, model, COMMAND)
        if model.count != base.count:
            raise MergeError(f"{name} has {model.count} layers, and {mixture.base_model} {base.count}", hint=_HINT)
        layers.check(model.version.parameters, name)
    versions = [model.version.parameters for model in models.values()]
    check_specs([base.version.parameters], mixture.dtype, COMMAND)
    check_specs(versions if mixture.choice else [layers.dense(each) for each in versions], mixture.dtype, COMMAND)
    mixture = with_tokens(workspace.repo, base, mixture)
    values = _made(workspace, layers, base, mixture)
    made = {name: Parameter(spec, tensor_digest(spec, data)) for name, (spec, data) in values.items()}
    experts = [models[expert.model].version.parameters for expert in mixture.experts]
    mixed = [layers.mixed(each, experts, made) for each in (base.version.parameters, *experts)]
    assert base.config is not None
    return NewModel(
        mixture.with_models({name: model.name for name, model in models.items()}),
        base,
        tuple(mixed[1:] if mixture.choice else mixed[:1]),
        mixed[0] if mixture.choice and find_merge(mixture.choice.method).contract.needs_base else None,
        layers.layout.config(base.config, len(experts), mixture.each, layers.sizes(base.version.parameters)),
        tuple(values.values()),
    )


def _made(workspace: Workspace, layers: DenseLayers, base: SourceModel, mixture: Mixture) -> Made:
    """Return what no model has: routers, and what adds nothing in an expert that every token takes."""
    up = base.version.parameters[layers.name(0, UP)].spec
    if not is_real(up.dtype):
        raise MergeError(
            f"{mixture.base_model} has weights of the type {up.dtype.name}, which routers cannot have", hint=_HINT
        )
    shape = (len(mixture.experts), up.shape[1])
    spec = TensorSpec(up.dtype, shape)
    fixed = None
    if mixture.gate_mode == "cheap_embed":
        fixed = embedded(token_rows(workspace, base), [prompt_tokens(expert) for expert in mixture.experts])
    made: Made = {}
    for number in range(layers.count):
        values = drawn(mixture.gate_mode, mixture.seed, number, shape) if fixed is None else fixed
        made[layers.name(number, layers.layout.router)] = spec, from_float(values, up.dtype)
        if layers.layout.shared:
            gate, down = TensorSpec(up.dtype, (1, up.shape[1])), TensorSpec(up.dtype, (up.shape[1], up.shape[0]))
            made[layers.name(number, layers.layout.shared_gate)] = gate, bytes(gate.nbytes)
            made[layers.name(number, layers.layout.shared[DOWN])] = down, bytes(down.nbytes)
    return made
