"""Merge versions of a model that different numbers of processes saved: all are divided as ours is."""

from __future__ import annotations

from typing import TYPE_CHECKING

from git_theta_ext.operations.sync.fetch import ensure_local
from git_theta_ext.records import replace

if TYPE_CHECKING:
    from git_theta_ext.checkpoint.resharded import Known
    from git_theta_ext.merging.model_versions import ModelVersions
    from git_theta_ext.model.model_version import ModelVersion
    from git_theta_ext.operations.workspace import Workspace


def in_our_pieces(workspace: Workspace, versions: ModelVersions) -> ModelVersions:
    """Return the versions of a model with the tensors in the pieces that our version has.

    Raises:
        MergeError: What the versions hold besides tensors cannot be exchanged.
        ThetaError: A piece is neither here nor on a remote, or the store cannot be written.
    """
    if not versions.resharded:
        return versions
    # Importing this takes as long as all else that a driver does if no value is computed.
    from git_theta_ext.checkpoint.resharded import reshard

    ours = versions.sides[0]
    ensure_local(workspace, (version.in_files(path) for version in versions.every for path in version.shards))
    known: Known = {}

    def divided(version: ModelVersion) -> ModelVersion:
        return reshard(workspace.store, version, ours, known) if version.resharded(ours) else version

    workspace.reporter.note(
        f"{versions.name}: versions were saved by different numbers of processes; the merged files are those of ours"
    )
    base = None if versions.base is None else divided(versions.base)
    return replace(versions, base=base, sides=tuple(divided(side) for side in versions.sides))
