"""Decide which parameters the model of some slices has."""

from __future__ import annotations

from typing import TYPE_CHECKING

from git_theta_ext.errors import MergeError
from git_theta_ext.merging.stacking.file import COMMAND
from git_theta_ext.merging.stacking.layers import SourceLayers, stacked
from git_theta_ext.operations.stacking.layouts import check_sources
from git_theta_ext.operations.stacking.make import NewModel
from git_theta_ext.operations.stacking.source import SourceModel, check_alike, check_specs
from git_theta_ext.registry import find_merge

if TYPE_CHECKING:
    from git_theta_ext.merging.stacking.file import Slices, Source
    from git_theta_ext.operations.workspace import Workspace

_HINT = f"git theta {COMMAND} -h"


def find_stacked_model(workspace: Workspace, slices: Slices) -> NewModel[Slices]:
    """Read the models that slices name, and stack their layers.

    Raises:
        UsageError: A name is not REV:PATH.
        RepositoryError: There is no such commit or path.
        MergeError: A model does not have these layers, or layers of these models do not fit together.
        FormatError: The files of a model do not fit together, or its parameters are not whole tensors.
        MissingError: The layout of a model is neither here nor on a remote.
    """
    models = {name: SourceModel.find(workspace.repo, name, COMMAND, fixed_format=False) for name in slices.models}
    check_sources(workspace, models.values())
    first = models[slices.models[0]]
    for name, model in models.items():
        check_alike(slices.models[0], first, name, model, COMMAND)
    columns, based = _columns(slices)
    for source in (source for column in columns for source in column):
        if source.layers.stop > models[source.model].count:
            raise MergeError(
                f"{source.model} has {models[source.model].count} layers, and layer_range is"
                f" [{source.layers.start}, {source.layers.stop}]",
                hint="edit the slices; git theta ls-files --params lists the layers",
            )
    versions = [stacked([_part(models[source.model], source) for source in column]) for column in columns]
    check_specs(versions, slices.dtype, COMMAND)
    config = None
    if first.config is not None:
        parts = [(models[source.model].config, source.layers) for source in columns[0]]
        config = first.config.of_layers([(part, layers) for part, layers in parts if part is not None])
    fixed = slices.with_models({name: model.name for name, model in models.items()})
    return NewModel(fixed, first, tuple(versions[based:]), versions[0] if based else None, config)


def _part(model: SourceModel, source: Source) -> SourceLayers:
    return SourceLayers(model.version.parameters, model.stack, source.layers)


def _columns(slices: Slices) -> tuple[list[list[Source]], bool]:
    """Return the sources of each version that is merged, base model first, and whether that is a common ancestor."""
    based = slices.choice is not None and find_merge(slices.choice.method).contract.needs_base
    rows = [list(sources) for sources in slices.slices]
    if slices.choice is not None and slices.base_model is not None:
        for number, row in enumerate(rows, 1):
            found = [source for source in row if source.model == slices.base_model]
            if len(found) != 1:
                raise MergeError(
                    f"slice {number} has {len(found)} sources of base_model {slices.base_model}, and must have one",
                    hint=_HINT,
                )
            row.remove(found[0])
            row.insert(0, found[0])
    elif slices.choice is not None and based:
        raise MergeError(f"{slices.choice.method!r} needs the key base_model: REV:PATH", hint=_HINT)
    if slices.choice is not None and len(rows[0]) < 2 + based:
        raise MergeError(f"{slices.choice.method!r} needs two sources besides base_model", hint=_HINT)
    return [list(column) for column in zip(*rows, strict=True)], based
