"""Read the tensors of a version of a model one by one, and fetch those that are not here."""

from __future__ import annotations

from threading import Lock
from typing import TYPE_CHECKING

from git_theta_ext.errors import MissingError, UsageError
from git_theta_ext.operations.external_data import external_files
from git_theta_ext.operations.sync.fetch import ensure_digests
from git_theta_ext.store.packs.format import chunk_count, chunk_range

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    from git_theta_ext.checkpoint.external_data import ExternalFile
    from git_theta_ext.model.manifest import Parameter
    from git_theta_ext.model.model_version import ModelVersion
    from git_theta_ext.model.tensor import Digest, TensorSpec
    from git_theta_ext.model.tensor_pieces import JoinedTensor
    from git_theta_ext.operations.workspace import Workspace


class ModelReader:
    """The tensors of a version of a model. Safe to use from several threads.

    Args:
        workspace: The repository and its store, which ``close`` closes.
        rev: The commit of the version; None for the index.
        version: The version.

    Attributes:
        specs: Element type and shape of each tensor by name.

    Raises:
        ThetaError: See ``external_files``.
    """

    def __init__(self, workspace: Workspace, rev: str | None, version: ModelVersion) -> None:
        self._workspace = workspace
        self._store = workspace.store
        self._parameters: Mapping[str, Parameter] = version.whole
        self._joined: Mapping[str, JoinedTensor] = version.joined
        path, manifest = next(iter(version.shards.items()))
        files = external_files(workspace, rev, path, manifest)
        self._external: dict[str, ExternalFile] = {extent.name: file for file in files for extent in file.tensors}
        self.specs: Mapping[str, TensorSpec] = {
            **version.specs,
            **{name: file.extents[name].spec for name, file in self._external.items()},
        }
        self._lock = Lock()
        self._here: set[Digest] = set()
        self._closed = False

    def fetch(self, names: Iterable[str]) -> None:
        """Fetch tensors that are not here.

        Raises:
            KeyError: There is no such tensor.
            MissingError: A tensor is neither here nor on a remote.
            RemoteError: No remote can be reached.
        """
        self._ensure({digest: name for name in names for digest in self._digests(name, 0, self.specs[name].nbytes)})

    def read(self, names: Sequence[str]) -> Iterator[tuple[str, bytearray]]:
        """Yield the bytes of tensors, in any order. They are fetched together, and decoded in threads.

        Raises:
            CorruptError: The stored bytes of a tensor do not match its digest.
            ThetaError: As ``fetch``.
        """
        self.fetch(names)
        stored = [name for name in names if name in self._parameters]
        tensors = [(self._parameters[name].digest, self.specs[name]) for name in stored]
        data = bytearray()  # grows as bytes come: until then the size is only what a manifest claims
        for piece in self._store.read_aligned([(tensor,) for tensor in tensors]):
            if piece.chunks:
                data += piece.data
            else:  # now it is verified
                yield stored[piece.group], data
                data = bytearray()
        for name in names:
            if name in self._external:
                yield name, bytearray(self._external[name].value(name))
            elif name in self._joined:
                yield name, self._joined[name].value(self._piece)

    def read_chunks(self, name: str, numbers: Sequence[int]) -> Iterator[tuple[int, memoryview]]:
        """Yield some chunks of a tensor, with the number of the first element of each.

        They are not compared with the tensor's digest. The tensor is fetched if it is not here.

        Raises:
            CorruptError: The stored bytes cannot be decoded.
            ThetaError: As ``fetch``.
        """
        spec = self.specs[name]
        ranges = [chunk_range(spec, number) for number in numbers]
        self._ensure({digest: name for start, end in ranges for digest in self._digests(name, start, end)})
        if name in self._external:
            file = self._external[name]
            begin = file.extents[name].offset
            for start, end in ranges:
                yield start * 8 // spec.dtype.bits, file.content[begin + start : begin + end]
        elif name in self._joined:
            for number, chunk in self._joined[name].chunks(self._piece, numbers):
                yield number * (spec.chunk_bytes * 8 // spec.dtype.bits), chunk
        else:
            for piece in self._store.read_chunks(self._parameters[name].digest, spec, numbers):
                yield piece.element, piece.data

    def close(self) -> None:
        """Close the store."""
        self._closed = True
        self._workspace.close()

    def _piece(self, _: str, parameter: Parameter) -> bytearray | memoryview:
        return self._store.read(parameter.digest, parameter.spec)

    def _digests(self, name: str, start: int, end: int) -> set[Digest]:
        """Return what the store has to hold for a range of a tensor's bytes."""
        if name in self._external:
            begin = self._external[name].extents[name].offset
            return self._external[name].content.digests(begin + start, begin + end)
        if name in self._joined:
            return self._joined[name].digests
        return {self._parameters[name].digest}

    def _ensure(self, digests: Mapping[Digest, str]) -> None:
        """Fetch what is not here; ``digests`` has the name of a tensor that needs each."""
        if self._closed:
            raise UsageError("the model is closed", hint="open it again: git_theta_ext.open")
        if digests.keys() <= self._here:
            return
        with self._lock:  # two threads may need the same
            missing = digests.keys() - self._here
            try:
                ensure_digests(self._workspace, missing)
            except MissingError as error:
                absent = self._store.touch_and_find_missing(missing)
                name = next((digests[digest] for digest in missing if digest in absent), None)
                raise error if name is None else MissingError(f"{name}: {error.message}", hint=error.hint) from error
            self._here |= missing


def chunks_of(spec: TensorSpec) -> Iterator[tuple[int, int, int]]:
    """Yield number, first element and element after the last of each chunk of a tensor."""
    for number in range(chunk_count(spec)):
        start, end = chunk_range(spec, number)
        yield number, start * 8 // spec.dtype.bits, end * 8 // spec.dtype.bits
