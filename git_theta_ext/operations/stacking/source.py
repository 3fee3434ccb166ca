"""Find the models that a new model is made of, and check whether parts of them fit together."""

from __future__ import annotations

import posixpath
import re
from typing import TYPE_CHECKING

from git_theta_ext.errors import MergeError, UsageError
from git_theta_ext.git.objects import object_infos, read_objects
from git_theta_ext.git.revisions import commit_id
from git_theta_ext.merging.stacking.config import CONFIG, LayersConfig
from git_theta_ext.merging.stacking.layers import find_stack
from git_theta_ext.model.floats import is_real
from git_theta_ext.model.shards import MOST_CONFIG_BYTES
from git_theta_ext.operations.model_names import find_version, full_path
from git_theta_ext.operations.models import Directory
from git_theta_ext.records import dataclass

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from git_theta_ext.git.repository import Repository
    from git_theta_ext.model.manifest import Parameter
    from git_theta_ext.model.model_version import ModelVersion

_FORMAT = "safetensors"
_COPIED = re.compile(
    r"tokenizer.*|(special|added)_tokens.*\.json|vocab\..*|merges\.txt|.*\.(model|tiktoken|jinja)|.*_config\.json"
    r"|chat_template.*|(modeling|configuration|tokenization|processing|image_processing)_.*\.py|LICENSE.*"
)
"""Files that Transformers reads, or that say what is allowed."""


@dataclass(frozen=True)
class SourceModel:
    """A model that a new one is made of.

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
    def find(cls, repo: Repository, name: str, command: str, *, fixed_format: bool = True) -> SourceModel:
        """Find a model.

        Args:
            repo: The repository.
            name: ``REV:PATH`` of the model.
            command: The command of git theta that makes the new model, for hints.
            fixed_format: Whether only models of safetensors are possible.

        Raises:
            UsageError: The name is not REV:PATH.
            RepositoryError: There is no such commit or path.
            MergeError: Its layers are not found, or its format cannot hold others.
        """
        rev, separator, typed = name.partition(":")
        if not rev or not separator:
            raise UsageError(f"model {name!r} is not REV:PATH, such as main:model", hint=f"git theta {command} -h")
        commit = commit_id(repo, rev)
        fixed = f"{commit}:{full_path(repo, typed)}"
        version = find_version(repo, fixed, command="git theta show {}")
        if fixed_format and version.format != _FORMAT:
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


def check_alike(name: str, first: SourceModel, other: str, model: SourceModel, command: str) -> None:
    """Check whether layers of a model can be layers of another one.

    Raises:
        MergeError: They cannot: names of layers or sizes differ.
    """
    if model.stack != first.stack:
        difference = f"layers are named {first.stack}* and {model.stack}*"
    elif first.config is None or model.config is None:
        difference = "" if first.config is model.config else f"only one has a {CONFIG}"
    else:
        difference = first.config.difference(model.config)
    if difference:
        raise MergeError(
            f"layers of {name} and {other} cannot be in one model: {difference}", hint=f"git theta {command} -h"
        )


def check_specs(versions: Sequence[Mapping[str, Parameter]], dtype: str | None, command: str) -> None:
    """Check whether versions have the same parameters, with floats of one type if one is asked for.

    Raises:
        MergeError: They have not.
    """
    for name in sorted(set().union(*versions)):
        specs = {version[name].spec if name in version else None for version in versions}
        if len(specs) > 1:
            raise MergeError(f"{name} has not the same type and shape in all models", hint=f"git theta {command} -h")
        spec = specs.pop()
        if dtype is not None and spec is not None and is_real(spec.dtype) and spec.dtype.name != dtype:
            raise MergeError(
                f"{name} is {spec.dtype.name}, and dtype is {dtype}: git theta {command} takes values as they are",
                hint=f"git theta {command} -h",
            )


def _small(repo: Repository, oid: str) -> bytes:
    """Return a configuration; one that is missing or too large is empty, which is an error later."""
    info = object_infos(repo, [oid]).get(oid)
    return b"" if info is None or info.nbytes > MOST_CONFIG_BYTES else dict(read_objects(repo, [oid])).get(oid, b"")
