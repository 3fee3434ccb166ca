"""Read the models that slices name, and decide which parameters the model of these slices has."""

from __future__ import annotations

import posixpath
import re
from typing import TYPE_CHECKING

from git_theta_ext.errors import MergeError, UsageError
from git_theta_ext.git.objects import object_infos, read_objects
from git_theta_ext.git.revisions import commit_id
from git_theta_ext.merging.stacking.config import CONFIG, LayersConfig
from git_theta_ext.merging.stacking.layers import SourceLayers, find_stack, stacked
from git_theta_ext.model.floats import is_real
from git_theta_ext.model.shards import MOST_CONFIG_BYTES
from git_theta_ext.operations.model_names import find_version, full_path
from git_theta_ext.operations.models import Directory
from git_theta_ext.records import dataclass
from git_theta_ext.registry import find_merge

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from git_theta_ext.git.repository import Repository
    from git_theta_ext.merging.stacking.file import Slices, Source
    from git_theta_ext.model.manifest import Parameter
    from git_theta_ext.model.model_version import ModelVersion

_HINT = "git theta stack -h"
_FORMAT = "safetensors"
_COPIED = re.compile(
    r"tokenizer.*|(special|added)_tokens.*\.json|vocab\..*|merges\.txt|.*\.(model|tiktoken|jinja)|.*_config\.json"
    r"|chat_template.*|(modeling|configuration|tokenization|processing|image_processing)_.*\.py|LICENSE.*"
)
"""Files that Transformers reads, or that say what is allowed."""
RECORD = "stack.yml"
"""The file in the directory of the new model from which it can be made again."""


@dataclass(frozen=True)
class SourceModel:
    """A model that slices name.

    Attributes:
        name: Commit id and path.
        version: Its files.
        directory: The directory that it is in.
        config: Its ``config.json``; None if there is none.
        stack: The beginning of the names of the parameters in its layers.
        count: The number of layers.
    """

    name: str
    version: ModelVersion
    directory: Directory
    config: LayersConfig | None
    stack: str
    count: int

    @classmethod
    def find(cls, repo: Repository, name: str) -> SourceModel:
        """Find a model.

        Raises:
            UsageError: The name is not REV:PATH.
            RepositoryError: There is no such commit or path.
            MergeError: Its layers are not found, or its format cannot hold others.
        """
        rev, separator, typed = name.partition(":")
        if not rev or not separator:
            raise UsageError(f"model {name!r} is not REV:PATH, such as main:model", hint=_HINT)
        commit = commit_id(repo, rev)
        fixed = f"{commit}:{full_path(repo, typed)}"
        version = find_version(repo, fixed, command="git theta show {}")
        if version.format != _FORMAT:
            hint = f"git theta export writes a checkpoint as {_FORMAT}"
            raise MergeError(f"{name} is a model of the format {version.format}, whose layers are fixed", hint=hint)
        directory = Directory.of(repo, commit, posixpath.dirname(next(iter(version.shards))))
        path = posixpath.join(posixpath.dirname(next(iter(version.shards))), CONFIG)
        config = None
        if path in directory.files:
            config = LayersConfig.parse(_small(repo, directory.files[path]), name)
        count = None if config is None else config.count
        return cls(fixed, version, directory, config, *find_stack(version.parameters, count, name))

    @property
    def copied(self) -> list[str]:
        """Paths of the files beside the model that the new model needs, too, such as those of the tokenizer."""
        return [path for path in self.directory.files if _COPIED.fullmatch(posixpath.basename(path))]


@dataclass(frozen=True)
class StackedModel:
    """What a model of slices consists of.

    Attributes:
        slices: The slices, with commit ids.
        first: The model whose configuration, tokenizer and division into files it has.
        sides: Parameters that are merged by the method of the slices, or the only ones.
        base: The parameters that the method takes as common ancestor; None if it needs none.
        config: Its ``config.json``; None if the first model has none.
    """

    slices: Slices
    first: SourceModel
    sides: tuple[Mapping[str, Parameter], ...]
    base: Mapping[str, Parameter] | None
    config: bytes | None


def find_stacked_model(repo: Repository, slices: Slices) -> StackedModel:
    """Read the models that slices name, and stack their layers.

    Raises:
        UsageError: A name is not REV:PATH.
        RepositoryError: There is no such commit or path.
        MergeError: A model does not have these layers, or layers of these models do not fit together.
        FormatError: The files of a model do not fit together.
    """
    models = {name: SourceModel.find(repo, name) for name in slices.models}
    first = models[slices.models[0]]
    for name, model in models.items():
        _check_alike(slices.models[0], first, name, model)
    columns, based = _columns(slices)
    for source in (source for column in columns for source in column):
        if source.layers.stop > models[source.model].count:
            raise MergeError(
                f"{source.model} has {models[source.model].count} layers, and layer_range is"
                f" [{source.layers.start}, {source.layers.stop}]",
                hint="edit the slices; git theta ls-files --params lists the layers",
            )
    versions = [stacked([_part(models[source.model], source) for source in column]) for column in columns]
    _check_specs(versions, slices.dtype)
    config = None
    if first.config is not None:
        parts = [(models[source.model].config, source.layers) for source in columns[0]]
        config = first.config.of_layers([(part, layers) for part, layers in parts if part is not None])
    fixed = slices.with_models({name: model.name for name, model in models.items()})
    return StackedModel(fixed, first, tuple(versions[based:]), versions[0] if based else None, config)


def _small(repo: Repository, oid: str) -> bytes:
    """Return a configuration; one that is missing or too large is empty, which is an error later."""
    info = object_infos(repo, [oid]).get(oid)
    return b"" if info is None or info.nbytes > MOST_CONFIG_BYTES else dict(read_objects(repo, [oid])).get(oid, b"")


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


def _check_alike(name: str, first: SourceModel, other: str, model: SourceModel) -> None:
    """Check whether layers of a model can be layers of another one."""
    if model.stack != first.stack:
        difference = f"layers are named {first.stack}* and {model.stack}*"
    elif first.config is None or model.config is None:
        difference = "" if first.config is model.config else f"only one has a {CONFIG}"
    else:
        difference = first.config.difference(model.config)
    if difference:
        raise MergeError(f"layers of {name} and {other} cannot be in one model: {difference}", hint=_HINT)


def _check_specs(versions: Sequence[Mapping[str, Parameter]], dtype: str | None) -> None:
    """Check whether versions have the same parameters, with floats of one type if one is asked for."""
    for name in sorted(set().union(*versions)):
        specs = {version[name].spec if name in version else None for version in versions}
        if len(specs) > 1:
            raise MergeError(f"{name} has not the same type and shape in all sources of its slice", hint=_HINT)
        spec = specs.pop()
        if dtype is not None and spec is not None and is_real(spec.dtype) and spec.dtype.name != dtype:
            raise MergeError(
                f"{name} is {spec.dtype.name}, and dtype is {dtype}: git theta stack takes values as they are",
                hint=_HINT,
            )
