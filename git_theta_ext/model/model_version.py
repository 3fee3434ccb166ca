"""One version of a model: the manifests of its files, and its parameters by name whichever file holds them."""

from __future__ import annotations

import posixpath
from functools import cached_property
from typing import TYPE_CHECKING

from git_theta_ext.errors import FormatError
from git_theta_ext.model.manifest import Manifest
from git_theta_ext.model.shards import INDEX_FORMATS
from git_theta_ext.model.tensor_pieces import JoinedTensor
from git_theta_ext.records import dataclass, replace
from git_theta_ext.util.quoting import shown_path

if TYPE_CHECKING:
    from collections.abc import Mapping

    from git_theta_ext.model.manifest import Parameter, Skeleton
    from git_theta_ext.model.model_index import ModelIndex
    from git_theta_ext.model.tensor import TensorSpec


@dataclass(frozen=True)
class ModelVersion:
    """A version of a model, such as that in a commit.

    Attributes:
        shards: Path to manifest of each checkpoint, sorted by path, with the parameters' names in the model.
        index_path: Path of the index; None if there is none.
        index: The index; None if there is none.
        config_path: Path of the configuration of an adapter; None if there is none.
        config: The configuration; None if there is none.
        files: The manifests as they are; None if parameters have the same names in the files.

    Raises:
        FormatError: Two files hold parameters of the same name, or they have different formats.
    """

    shards: Mapping[str, Manifest]
    index_path: str | None = None
    index: ModelIndex | None = None
    config_path: str | None = None
    config: bytes | None = None
    files: Mapping[str, Manifest] | None = None

    @classmethod
    def of(
        cls, files: Mapping[str, Manifest], index_path: str | None = None, index: ModelIndex | None = None
    ) -> ModelVersion:
        """Return the version with some files, whose parameters get the names that the index has for them.

        Args:
            files: Path to manifest of each checkpoint, sorted by path.
            index_path: Path of the index; None if there is none.
            index: The index; None if there is none.

        Raises:
            FormatError: As the class.
        """
        if index is None or index.fixed is None:
            return cls(files, index_path, index)
        formats = INDEX_FORMATS.get(posixpath.basename(index_path or ""), ())
        shards = {}
        for path, manifest in files.items():
            shard = renamed(manifest, in_model(path, manifest, index))
            shards[path] = replace(shard, format=formats[0]) if manifest.format in formats else shard
        return cls(shards, index_path, index, files=files)

    def __post_init__(self) -> None:
        if len({manifest.format for manifest in self.shards.values()}) > 1:
            raise FormatError(f"the files {' and '.join(sorted(self.shards))} have different formats")
        if len(self.places) < sum(len(manifest.parameters) for manifest in self.shards.values()):
            for path, manifest in self.shards.items():
                for name in manifest.parameters:
                    if self.places[name] != path:
                        raise FormatError(
                            f"parameter {name!r} is in both {shown_path(path)} and {shown_path(self.places[name])}"
                        )

    def in_files(self, path: str) -> Manifest:
        """Return the manifest of a file as it is."""
        return (self.files or self.shards)[path]

    def names_in_file(self, path: str) -> Mapping[str, str]:
        """Return the name in a file of each parameter that has another name in the model."""
        if self.files is None or self.index is None:
            return {}
        return {new: old for old, new in in_model(path, self.files[path], self.index).items()}

    @cached_property
    def places(self) -> Mapping[str, str]:
        """Parameter to the path of the file that holds it."""
        return {name: path for path, manifest in self.shards.items() for name in manifest.parameters}

    @cached_property
    def parameters(self) -> Mapping[str, Parameter]:
        """The parameters of all files by name."""
        return {name: value for manifest in self.shards.values() for name, value in manifest.parameters.items()}

    @cached_property
    def joined(self) -> Mapping[str, JoinedTensor]:
        """The tensors that are in several pieces, each of which is a parameter, by name."""
        tensors = {} if self.index is None else self.index.tensors
        found = {name: JoinedTensor.of(tensor, self.parameters) for name, tensor in tensors.items()}
        return {name: tensor for name, tensor in found.items() if tensor is not None and name not in self.parameters}

    @cached_property
    def whole(self) -> Mapping[str, Parameter]:
        """The parameters that are tensors by themselves, and no pieces of one, by name."""
        pieces = {name for tensor in self.joined.values() for name in tensor.names}
        return {name: parameter for name, parameter in self.parameters.items() if name not in pieces}

    @cached_property
    def specs(self) -> Mapping[str, TensorSpec]:
        """Element type and shape of each tensor by name, whether it is in pieces or not."""
        specs = {name: tensor.spec for name, tensor in self.joined.items()}
        return specs | {name: parameter.spec for name, parameter in self.whole.items()}

    def resharded(self, other: ModelVersion) -> bool:
        """Return whether it has the same tensors and objects as another version, in other pieces or places."""
        if self.index is None or other.index is None or self.index.fixed == other.index.fixed:
            return False
        sizes, others = ({n: size for n, (*_, size) in index.objects.items()} for index in (self.index, other.index))
        return self.specs == other.specs and sizes == others

    @property
    def format(self) -> str:
        """The format of its files."""
        return next(iter(self.shards.values())).format

    def as_one(self, skeleton: Skeleton | None = None) -> Manifest:
        """Return a manifest of all parameters and conflicts, which is not that of any file.

        Args:
            skeleton: Its layout; that of the first file if None.
        """
        layout = skeleton or next(iter(self.shards.values())).skeleton
        conflicts = tuple(conflict for shard in self.shards.values() for conflict in shard.conflicts)
        return Manifest(self.format, layout, self.parameters, None, conflicts)

    @property
    def nbytes(self) -> int:
        """The bytes of all parameters."""
        return sum(value.spec.nbytes for value in self.parameters.values())

    @property
    def elements(self) -> int:
        """The number of elements of all parameters."""
        return sum(value.spec.elements for value in self.parameters.values())


def in_model(path: str, manifest: Manifest, index: ModelIndex) -> dict[str, str]:
    """Return the name in the model of each parameter and conflict of a file.

    Raises:
        FormatError: Two have the same name.
    """
    file = posixpath.basename(path)
    every = {*manifest.parameters, *(conflict.name for conflict in manifest.conflicts)}
    names = {name: index.name_in_model(file, name) for name in every}
    if len(set(names.values())) < len(names):
        raise FormatError(f"two parameters of {shown_path(path)} have the same name")
    return names


def renamed(manifest: Manifest, names: Mapping[str, str]) -> Manifest:
    """Return a manifest in which every parameter and conflict has another name."""
    parameters = {names[name]: value for name, value in manifest.parameters.items()}
    conflicts = tuple(replace(conflict, name=names[conflict.name]) for conflict in manifest.conflicts)
    return replace(manifest, parameters=parameters, conflicts=conflicts)


def index_of(version: ModelVersion, merged: ModelVersion) -> ModelIndex | None:
    """Return the index of ``version``, rewritten for the files of another version in the same directory."""
    if version.index is None:
        return None
    weight_map = {name: posixpath.basename(path) for name, path in merged.places.items()}
    added = {
        "total_size": merged.nbytes - version.nbytes,
        "total_parameters": merged.elements - version.elements,
    }
    return version.index.moved(weight_map, added)
