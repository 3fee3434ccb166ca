"""Find the external data of a version of a model, such as ``model.onnx.data`` beside ``model.onnx``."""

from __future__ import annotations

import posixpath
from typing import TYPE_CHECKING

from git_theta_ext.checkpoint.external_data import (
    ExternalFile,
    StoredChunks,
    external_tensors,
    has_external_data,
    is_in_chunks,
)
from git_theta_ext.errors import MissingError
from git_theta_ext.git.objects import read_manifests
from git_theta_ext.operations.models import Directory
from git_theta_ext.operations.sync.fetch import ensure_digests
from git_theta_ext.store.skeletons import read_skeleton
from git_theta_ext.util.quoting import shown_path

if TYPE_CHECKING:
    from git_theta_ext.model.external_tensor import ExternalTensor
    from git_theta_ext.model.manifest import Manifest
    from git_theta_ext.model.model_version import ModelVersion
    from git_theta_ext.operations.workspace import Workspace


def external_files(workspace: Workspace, rev: str | None, path: str, manifest: Manifest) -> list[ExternalFile]:
    """Return the files that hold further tensors of a checkpoint; their chunks are not fetched yet.

    Args:
        workspace: The repository and its store.
        rev: A commit or a tree; None for the index.
        path: Path of the checkpoint.
        manifest: Its version.

    Raises:
        MissingError: A file is not tracked in this version, or a layout is neither here nor on a remote.
        FormatError: A tensor is not inside the file.
    """
    tables = tables_of(workspace, manifest)
    if not tables:
        return []
    folder = posixpath.dirname(path)
    files = Directory.of(workspace.repo, rev, folder).files
    oids = {files[full]: full for file in tables if (full := posixpath.join(folder, file)) in files}
    manifests = read_manifests(workspace.repo, oids)
    found = []
    for file, tensors in sorted(tables.items()):
        data = manifests.get(files.get(posixpath.join(folder, file), ""))
        if data is None:
            hint = f"git theta track {workspace.repo.argument(posixpath.join(folder, file))}"
            raise MissingError(
                f"{shown_path(path)}: its tensors are in {shown_path(file)}, which git theta does not track", hint=hint
            )
        if (external := external_file(workspace, data, tensors)) is not None:
            found.append(external)
    return found


def tables_of(workspace: Workspace, manifest: Manifest) -> dict[str, list[ExternalTensor]]:
    """Return the tensors of a checkpoint that are in other files, by file; its layout is fetched if it is not here.

    Raises:
        ThetaError: The layout is neither here nor on a remote, or damaged.
    """
    if not has_external_data(manifest.format):
        return {}
    ensure_digests(workspace, {manifest.skeleton.digest})
    layout = read_skeleton(workspace.store, manifest.skeleton, parameters=len(manifest.parameters))
    return external_tensors(manifest, layout)


def external_file(workspace: Workspace, data: Manifest, tensors: list[ExternalTensor]) -> ExternalFile | None:
    """Return a file and the tensors in it; None if it is not stored in chunks of the file itself.

    Raises:
        ThetaError: Its layout is neither here nor on a remote, or a tensor is not inside the file.
    """
    if not is_in_chunks(data):
        return None
    store = workspace.store
    ensure_digests(workspace, {data.skeleton.digest})
    if read_skeleton(store, data.skeleton, parameters=len(data.parameters)).packings:
        return None
    return ExternalFile.of(
        StoredChunks(data, lambda _, chunk: memoryview(store.read(chunk.digest, chunk.spec))), tensors
    )


def tensors_outside(workspace: Workspace, place: str, version: ModelVersion) -> dict[str, ExternalTensor]:
    """Return the tensors of a model that are in other files, or those that a file has for another one, by name.

    Args:
        workspace: The repository and its store.
        place: The version as the user types it, ``REV:PATH``.
        version: The version.

    Raises:
        ThetaError: The layout of a file is neither here nor on a remote, or damaged.
    """
    path, manifest = next(iter(version.shards.items()))
    if is_in_chunks(manifest):
        tensors = tensors_in(workspace, place.partition(":")[0] or None, path)
    else:
        tensors = [tensor for table in tables_of(workspace, manifest).values() for tensor in table]
    return {tensor.name: tensor for tensor in tensors}


def tensors_in(workspace: Workspace, revision: str | None, path: str) -> list[ExternalTensor]:
    """Return the tensors of a file that another file of its directory names; that of the first path counts.

    Args:
        workspace: The repository and its store.
        revision: A commit or a tree; None for the index.
        path: Path of the file.

    Raises:
        ThetaError: As ``tables_of``.
    """
    folder, name = posixpath.split(path)
    files = Directory.of(workspace.repo, revision, folder).files
    manifests = read_manifests(workspace.repo, {oid: file for file, oid in files.items()})
    for _, oid in sorted(files.items()):
        if oid in manifests and has_external_data(manifests[oid].format):
            tensors = tables_of(workspace, manifests[oid]).get(name)
            if tensors:
                return tensors
    return []
