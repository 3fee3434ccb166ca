"""The ways in which ``git theta add`` stores files: as they are, with an update, or with small changes reverted."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from git_theta_ext.comparison.words import human_bytes, plural
from git_theta_ext.operations.filter.populate import manifest_at
from git_theta_ext.operations.staging.model_files import the_model
from git_theta_ext.operations.staging.stage import store_file
from git_theta_ext.operations.staging.tolerance import revert_small_changes
from git_theta_ext.operations.staging.update import store_update
from git_theta_ext.operations.staging.worktree_checkpoint import open_checkpoint
from git_theta_ext.records import dataclass, field

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from git_theta_ext.operations.staging.stage import Rewrite, Staged
    from git_theta_ext.operations.staging.update import UpdatedFile, UpdateSource
    from git_theta_ext.operations.workspace import Workspace
    from git_theta_ext.update.tolerance import Tolerance


@dataclass(frozen=True)
class Work:
    """Files to stage, whose parameters are stored.

    Attributes:
        staged: Files to stage as they are.
        rewrites: Files to rewrite first.
        details: Further JSON fields of a path.
        notes: Further text about a path.
    """

    staged: list[Staged] = field(default_factory=list)
    rewrites: list[Rewrite] = field(default_factory=list)
    details: dict[str, dict[str, Any]] = field(default_factory=dict)
    notes: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Staging:
    """Stores files, given as a mapping of paths to format names.

    Attributes:
        workspace: The repository and its store.
        advance: Takes the number of bytes that were processed since the last call.
        dry_run: Whether to store nothing.
    """

    workspace: Workspace
    advance: Callable[[int], None]
    dry_run: bool

    def plain(self, formats: Mapping[str, str | None]) -> Work:
        """Store files as they are."""
        if self.dry_run:
            return Work()
        return Work([store_file(self.workspace, path, name, self.advance) for path, name in formats.items()])

    def update(self, formats: Mapping[str, str | None], source: UpdateSource) -> Work:
        """Store one model with an update, and other files as they are.

        Raises:
            UsageError: There are several models.
        """
        paths = the_model(self.workspace.repo, formats)
        opened = [open_checkpoint(self.workspace, path, formats[path], self.advance) for path in paths]
        done = store_update(self.workspace, opened, source, dry_run=self.dry_run)
        changed = {item.rewrite.path for item in done}
        work = self.plain({path: name for path, name in formats.items() if path not in changed})
        for item in done:
            work.rewrites.append(item.rewrite)
            work.details[item.rewrite.path] = {
                "update": source.kind,
                "applied_here": not item.applied,
                "exact": list(item.exact),
                "residual": list(item.residual),
                "update_bytes": item.update_bytes,
                "stored_bytes": None if self.dry_run else item.stored_bytes,
            }
            stored = "" if self.dry_run else f", {human_bytes(item.stored_bytes)} stored"
            work.notes[item.rewrite.path] = _note(item) + stored
        return work

    def revert_small_changes(self, formats: Mapping[str, str | None], tolerance: Tolerance) -> Work:
        """Store files after reverting parameters that changed by less than a tolerance."""
        work = Work()
        for path, name in formats.items():
            if manifest_at(self.workspace.repo, path) is not None:  # a manifest has no values to compare
                work.staged.extend(self.plain({path: name}).staged)
                continue
            checkpoint = open_checkpoint(self.workspace, path, name, self.advance)
            reverted = revert_small_changes(self.workspace, checkpoint, tolerance)
            work.details[path] = {"snapped": list(reverted.names)}
            work.notes[path] = f"{len(reverted.names)} of {plural(reverted.changed, 'changed parameter')} reverted"
            if not reverted.names:
                work.staged.extend(self.plain({path: name}).staged)
                continue
            work.rewrites.append(reverted.rewrite)
            if not self.dry_run:
                checkpoint.store(self.workspace.store, reverted.rewrite.manifest)
        return work


def _note(done: UpdatedFile) -> str:
    count = plural(len(done.exact) + len(done.residual), "parameter")
    what = f"{count} updated"
    if done.applied:
        what = f"the file already contained the update of {count}"
        if done.residual:
            what += f"; rounding differences of {len(done.residual)} of them are stored as well"
    return f"{what}; size of the update: {human_bytes(done.update_bytes)}"
