"""Stage a checkpoint in which parameters that changed very little keep their previous values."""

from __future__ import annotations

from typing import TYPE_CHECKING

from git_theta_ext.model.manifest import Manifest
from git_theta_ext.operations.staging.stage import Rewrite
from git_theta_ext.operations.staging.worktree_checkpoint import committed
from git_theta_ext.operations.sync.fetch import ensure_digests
from git_theta_ext.records import dataclass
from git_theta_ext.update.tolerance import within

if TYPE_CHECKING:
    from git_theta_ext.operations.staging.worktree_checkpoint import WorktreeCheckpoint
    from git_theta_ext.operations.workspace import Workspace
    from git_theta_ext.update.tolerance import Tolerance


@dataclass(frozen=True)
class RevertedChanges:
    """A checkpoint with small changes reverted.

    Attributes:
        rewrite: The new content of the file.
        names: Parameters that were reverted.
        changed: Number of parameters that differed from HEAD's.
    """

    rewrite: Rewrite
    names: tuple[str, ...]
    changed: int


def revert_small_changes(workspace: Workspace, checkpoint: WorktreeCheckpoint, tolerance: Tolerance) -> RevertedChanges:
    """Revert parameters to HEAD's values if all their elements are within a tolerance; nothing is written yet.

    Args:
        workspace: The repository and its store.
        checkpoint: The file.
        tolerance: How far elements may be from HEAD's.

    Raises:
        MissingError: HEAD's values are neither in the store nor on a remote.
        CorruptError: Stored data is damaged.
    """
    manifest = checkpoint.described.manifest
    head = committed(workspace.repo, checkpoint.path)
    before = {} if head is None else head.parameters
    changed = [name for name, parameter in manifest.parameters.items() if name in before and before[name] != parameter]
    comparable = [
        name
        for name in changed
        if before[name].spec == manifest.parameters[name].spec and before[name].spec.dtype.arithmetic
    ]
    ensure_digests(workspace, {before[name].digest for name in comparable})
    names = [
        name
        for name in comparable
        if within(
            before[name].spec,
            workspace.store.stream(before[name].digest, before[name].spec),
            checkpoint.value(name),
            tolerance,
        )
    ]
    parameters = {**manifest.parameters, **{name: before[name] for name in names}}
    reverted = Manifest(manifest.format, manifest.skeleton, parameters)
    rewrite = Rewrite(
        checkpoint.path, checkpoint.stat, reverted, checkpoint.format_name, checkpoint.described.scan.note
    )
    return RevertedChanges(rewrite, tuple(names), len(changed))
