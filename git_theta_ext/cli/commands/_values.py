"""Find the values of a parameter that a user names: in one piece, in several, or in another file of its directory."""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeAlias, TypeVar

from git_theta_ext.checkpoint.external_data import has_external_data, is_in_chunks
from git_theta_ext.errors import MissingError, UsageError
from git_theta_ext.model.tensor import TensorHasher
from git_theta_ext.model.tensor_pieces import JoinedTensor
from git_theta_ext.operations.sync.fetch import ensure_digests
from git_theta_ext.records import dataclass
from git_theta_ext.util.quoting import shell_word
from git_theta_ext.util.text import similar

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from git_theta_ext.checkpoint.external_data import ExternalFile
    from git_theta_ext.model.manifest import Parameter
    from git_theta_ext.model.model_version import ModelVersion
    from git_theta_ext.model.tensor import Digest, TensorSpec
    from git_theta_ext.operations.workspace import Workspace
    from git_theta_ext.store.store import Store

    Values: TypeAlias = "Parameter | JoinedTensor | Outside"
    _Found = TypeVar("_Found")


@dataclass(frozen=True)
class Outside:
    """A tensor in external data."""

    name: str
    file: ExternalFile

    @property
    def spec(self) -> TensorSpec:
        """Its element type and shape."""
        return self.file.extents[self.name].spec

    @property
    def digests(self) -> set[Digest]:
        """The digests of the chunks that it is in."""
        extent = self.file.extents[self.name]
        return self.file.content.digests(extent.offset, extent.end)


def everything(workspace: Workspace, place: str, version: ModelVersion) -> dict[str, Values]:
    """Return the tensors of a version, the pieces of these, and the tensors in external data, by name.

    Args:
        workspace: The repository and its store.
        place: The version as the user types it.
        version: The version.

    Raises:
        ThetaError: External data is not tracked, or the file that describes it is neither here nor on a remote.
    """
    outside = {
        extent.name: Outside(extent.name, file) for file in _files(workspace, place, version) for extent in file.tensors
    }
    return {**version.parameters, **version.joined, **outside}


def _files(workspace: Workspace, place: str, version: ModelVersion) -> list[ExternalFile]:
    """Return the external data of a version, or the version itself if it is external data."""
    from git_theta_ext.operations.external_data import external_file, external_files, tensors_in

    path, manifest = next(iter(version.shards.items()))
    revision = place.partition(":")[0] or None
    if has_external_data(manifest.format):
        return external_files(workspace, revision, path, manifest)
    tensors = tensors_in(workspace, revision, path) if is_in_chunks(manifest) else []
    file = external_file(workspace, manifest, tensors) if tensors else None
    return [] if file is None else [file]


def chunks_of(store: Store, values: Values) -> Iterator[memoryview]:
    """Yield the little-endian bytes of a tensor."""
    if isinstance(values, JoinedTensor):
        return (chunk for _, chunk in values.chunks(lambda _, piece: store.read(piece.digest, piece.spec)))
    if isinstance(values, Outside):
        return values.file.chunks(values.name)
    return store.stream(values.digest, values.spec)


def digest_of(store: Store, values: Values) -> Digest:
    """Return the digest of a tensor, for which it is read if it is not one parameter."""
    if not isinstance(values, JoinedTensor | Outside):
        return values.digest
    hasher = TensorHasher(values.spec)
    for chunk in chunks_of(store, values):
        hasher.update(chunk)
    return hasher.digest()


def find_parameter(parameters: Mapping[str, _Found], name: str, place: str) -> _Found:
    """Return a parameter.

    Args:
        parameters: The parameters by name.
        name: What the user typed.
        place: What has the parameters, as the user types it.

    Raises:
        UsageError: There is none of that name.
    """
    parameter = parameters.get(name)
    if parameter is None:
        near = similar(name, parameters)
        raise UsageError(
            f"{place} has no parameter {name!r}",
            hint=f"git theta show {shell_word(place)} {shell_word(near)}"
            if near
            else f"git theta show {shell_word(place)} lists them",
        )
    return parameter


def fetch_parameter(workspace: Workspace, name: str, parameter: Values) -> None:
    """Fetch a parameter if it is not here.

    Raises:
        MissingError: No remote has it.
    """
    try:
        digests = parameter.digests if isinstance(parameter, JoinedTensor | Outside) else {parameter.digest}
        ensure_digests(workspace, digests)
    except MissingError as error:
        raise MissingError(f"{name}: {error.message}", hint=error.hint) from error
