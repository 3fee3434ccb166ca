"""A checkpoint of the work tree that is inspected before any of it is stored."""

from __future__ import annotations

from typing import TYPE_CHECKING

from git_theta_ext.checkpoint.clean import describe, value_of
from git_theta_ext.checkpoint.file import CheckpointFile, open_file
from git_theta_ext.errors import ChangedError
from git_theta_ext.git.objects import read_manifests
from git_theta_ext.git.pathspecs import worktree_of
from git_theta_ext.git.revisions import find_object
from git_theta_ext.model.tensor import tensor_digest
from git_theta_ext.operations.staging.stage import regular_file
from git_theta_ext.records import dataclass
from git_theta_ext.util.quoting import shown_path
from git_theta_ext.util.threads import no_progress

if TYPE_CHECKING:
    import os
    from collections.abc import Callable

    from git_theta_ext.checkpoint.clean import Described
    from git_theta_ext.git.repository import Repository
    from git_theta_ext.model.manifest import Manifest
    from git_theta_ext.operations.workspace import Workspace
    from git_theta_ext.store.store import Store


@dataclass(frozen=True)
class WorktreeCheckpoint:
    """A file of the work tree, read but not stored.

    Attributes:
        path: Path relative to the top of the work tree.
        stat: Stat data of the file when it was read.
        format_name: From the ``theta-format`` attribute; None to detect it.
        file: Its bytes, and the positions of its tensors.
        described: Its manifest and layout.
    """

    path: str
    stat: os.stat_result
    format_name: str | None
    file: CheckpointFile
    described: Described

    def value(self, name: str) -> memoryview:
        """Return a parameter's bytes.

        Raises:
            ChangedError: They have changed since the file was opened.
        """
        data, parameter = self.file.value(name), self.described.manifest.parameters[name]
        if tensor_digest(parameter.spec, data) != parameter.digest:
            raise ChangedError(f"{shown_path(self.path)}: parameter {name!r} changed while it was read")
        return data

    def store(self, store: Store, kept: Manifest) -> int:
        """Store the skeleton, and the tensors of the file that a new manifest keeps; return the number of bytes.

        Raises:
            ChangedError: Another process has written to the file since it was opened.
            StoreError: The store cannot be written.
        """
        parameters, skeleton = kept.parameters, self.described.layout.to_skeleton()
        own = self.described.manifest.parameters
        return store.put(
            [
                *(
                    (extent.spec, own[extent.name].digest, value_of(self.file.data, extent))
                    for extent in self.described.scan.extents
                    if parameters[extent.name] == own[extent.name]
                ),
                (kept.skeleton.spec, kept.skeleton.digest, memoryview(skeleton)),
            ]
        )


def open_checkpoint(
    workspace: Workspace, path: str, format_name: str | None, advance: Callable[[int], None] = no_progress
) -> WorktreeCheckpoint:
    """Read a checkpoint of the work tree.

    Raises:
        UsageError: It is not a regular file, or only a manifest is there.
        FormatError: It is malformed.
        ChangedError: It was truncated while it was read.
        StoreError: It cannot be read.
    """
    before = regular_file(workspace.repo, path)
    data = open_file(worktree_of(workspace.repo) / path, path, workspace.repo.argument(path))
    store = workspace.store
    described = describe(data, path, format_name, threads=store.threads, advance=advance, root=store.root)
    return WorktreeCheckpoint(path, before, format_name, CheckpointFile.of(path, data, described.scan), described)


def committed(repo: Repository, path: str) -> Manifest | None:
    """Return the manifest at a path in HEAD, or None if there is none.

    Raises:
        ManifestError: The manifest is broken.
    """
    oid = find_object(repo, f"HEAD:{path}")
    return read_manifests(repo, {oid: path}).get(oid) if oid else None
