"""One version of a checkpoint in a diff: what it holds, and where its values are."""

from __future__ import annotations

from functools import cached_property
from typing import TYPE_CHECKING

from git_theta_ext.checkpoint.clean import describe
from git_theta_ext.checkpoint.file import CheckpointFile
from git_theta_ext.checkpoint.scan import scan
from git_theta_ext.checkpoint.stat_cache import StatCache
from git_theta_ext.git.blobs import BlobReader
from git_theta_ext.model.manifest import MAX_MANIFEST, Manifest, is_manifest
from git_theta_ext.model.model_version import in_model, renamed
from git_theta_ext.records import dataclass, field, replace
from git_theta_ext.store.temporary import spool
from git_theta_ext.util.file_bytes import FileBytes, open_bytes

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

    from git_theta_ext.model.manifest import Parameter
    from git_theta_ext.model.model_index import ModelIndex
    from git_theta_ext.operations.workspace import Workspace

_CHUNKS = "opaque"


@dataclass(frozen=True)
class Side:
    """One version of a checkpoint: what it holds, and the file that has its values if the store does not.

    Attributes:
        manifest: None if this side has no such file.
        path: Of a checkpoint; None if there is none.
        format_name: From the ``theta-format`` attribute.
        opened: The checkpoint, if it is open already.
        names: The name in the file of each parameter that has another name in the manifest.
        root: Root of the store, for temporary files; None if there is none.
    """

    manifest: Manifest | None
    path: Path | None = None
    format_name: str | None = None
    opened: CheckpointFile | None = None
    names: Mapping[str, str] = field(default_factory=dict)
    root: Path | None = None

    @property
    def in_chunks(self) -> bool:
        """Whether the tensors in the file are unknown, as they are if another file names these."""
        return self.manifest is not None and self.manifest.format == _CHUNKS

    def in_model(self, path: str, index: ModelIndex) -> Side:
        """Return this version with the names that an index has for the parameters.

        Raises:
            FormatError: Two have the same name.
        """
        if self.manifest is None:
            return self
        names = in_model(path, self.manifest, index)
        manifest = renamed(self.manifest, names)
        return replace(self, manifest=manifest, names={new: old for old, new in names.items()})

    @cached_property
    def file(self) -> CheckpointFile | None:
        """The checkpoint, which is opened only if a value has to come from it."""
        if self.opened is not None or self.path is None:
            return self.opened
        data = open_bytes(self.path)
        if is_manifest(data) or not data.nbytes:
            return None
        return CheckpointFile.of(str(self.path), data, scan(data, str(self.path), self.format_name, self.root))

    def values(self, name: str, parameter: Parameter) -> Iterator[memoryview] | None:
        """Return a parameter's bytes from the file; see ``operations.diff.measuring.Values``."""
        name = self.names.get(name, name)
        if self.file is None or self.file.specs.get(name) != parameter.spec:
            return None
        return self.file.chunks(name)


@dataclass(frozen=True)
class ModelSide:
    """One version of a model.

    Attributes:
        shards: Path to the version of each file.
    """

    shards: Mapping[str, Side]
    _places: dict[str, Side] = field(default_factory=dict, init=False, compare=False)

    def __post_init__(self) -> None:
        for side in self.shards.values():
            if side.manifest is not None:
                self._places.update(dict.fromkeys(side.manifest.parameters, side))

    def values(self, name: str, parameter: Parameter) -> Iterator[memoryview] | None:
        """Return a parameter's bytes from the file that holds it; see ``operations.diff.measuring.Values``."""
        return self._places[name].values(name, parameter)


def side_of_file(workspace: Workspace, file: Path, path: str, format_name: str | None, *, cached: bool = True) -> Side:
    """Return the version in a file, which is a checkpoint or the manifest in its place.

    Args:
        workspace: The repository and its store.
        file: The file.
        path: For messages.
        format_name: From the ``theta-format`` attribute.
        cached: Whether the stat cache may know the file.

    Raises:
        FormatError: The file breaks its format.
        ManifestError: The manifest is broken.
        OSError: The file cannot be read.
    """
    content = StatCache(workspace.store).get(file, format_name) if cached else None
    if content is not None:
        return Side(Manifest.parse(content), file, format_name, root=workspace.store.root)
    data = open_bytes(file)
    if is_manifest(data) and data.nbytes <= MAX_MANIFEST:
        return Side(Manifest.parse(bytes(data[:])))
    return _described(workspace, data, path, format_name, file)


def side_of_blob(workspace: Workspace, oid: str, path: str, format_name: str | None) -> Side:
    """Return the version of a checkpoint that git itself stores, from before it was tracked.

    Args:
        workspace: The repository.
        oid: Object id of the file.
        path: For messages.
        format_name: From the ``theta-format`` attribute.

    Raises:
        RepositoryError: Git does not have the blob.
        FormatError: The file breaks its format.
    """
    with spool(workspace.store.root) as copy:
        with BlobReader(workspace.repo) as blobs:
            blobs.copy(oid, copy)
        copy.flush()
        return _described(workspace, FileBytes(copy.fileno(), path), path, format_name, None)


def _described(workspace: Workspace, data: FileBytes, path: str, format_name: str | None, file: Path | None) -> Side:
    described = describe(data, path, format_name, root=workspace.store.root)
    return Side(described.manifest, file, format_name, CheckpointFile.of(path, data, described.scan))
