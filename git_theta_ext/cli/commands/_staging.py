"""The ways in which ``git theta add`` takes files: as they are, with an update, or set back where they hardly moved."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from git_theta_ext.diff.words import human_bytes, plural
from git_theta_ext.operations.filter.populate import manifest_at
from git_theta_ext.operations.staging.opened import open_checkpoint
from git_theta_ext.operations.staging.stage import store_file
from git_theta_ext.operations.staging.tolerance import revert_small_changes
from git_theta_ext.operations.staging.update import store_update

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from git_theta_ext.operations.staging.stage import Rewrite, Staged
    from git_theta_ext.operations.staging.update import Source, UpdatedFile
    from git_theta_ext.operations.workspace import Workspace
    from git_theta_ext.update.tolerance import Tolerance


@dataclass(frozen=True)
class Work:
    """What is to be staged; all of it is stored.

    Attributes:
        staged: Files that go into the index as they are.
        rewrites: Files to write first.
        told: What programs get to know of a path besides.
        notes: What people get to know of a path besides.
    """

    staged: list[Staged] = field(default_factory=list)
    rewrites: list[Rewrite] = field(default_factory=list)
    told: dict[str, dict[str, Any]] = field(default_factory=dict)
    notes: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Staging:
    """Stores files, given as path to format name.

    Attributes:
        workspace: The repository and its store.
        advance: Told the number of bytes dealt with, as it goes.
        dry_run: Store nothing.
    """

    workspace: Workspace
    advance: Callable[[int], None]
    dry_run: bool

    def plain(self, formats: Mapping[str, str | None]) -> Work:
        """Store files as they are."""
        if self.dry_run:
            return Work()
        return Work([store_file(self.workspace, path, name, self.advance) for path, name in formats.items()])

    def update(self, formats: Mapping[str, str | None], source: Source) -> Work:
        """Store one file with an update."""
        ((path, name),) = formats.items()
        checkpoint = open_checkpoint(self.workspace, path, name, self.advance)
        done = store_update(self.workspace, checkpoint, source, dry_run=self.dry_run)
        told = {
            "update": source.kind,
            "applied_here": not done.applied,
            "exact": list(done.exact),
            "residual": list(done.residual),
            "update_bytes": done.update_bytes,
            "stored_bytes": None if self.dry_run else done.stored_bytes,
        }
        note = _note(done) + ("" if self.dry_run else f", {human_bytes(done.stored_bytes)} stored")
        return Work(rewrites=[done.rewrite], told={path: told}, notes={path: note})

    def revert_small_changes(self, formats: Mapping[str, str | None], tolerance: Tolerance) -> Work:
        """Store files in which parameters that hardly moved are set back."""
        work = Work()
        for path, name in formats.items():
            if manifest_at(self.workspace.repo, path) is not None:  # it holds nothing to compare
                work.staged.extend(self.plain({path: name}).staged)
                continue
            checkpoint = open_checkpoint(self.workspace, path, name, self.advance)
            found = revert_small_changes(self.workspace, checkpoint, tolerance)
            work.told[path] = {"snapped": list(found.names)}
            work.notes[path] = f"{len(found.names)} of {plural(found.changed, 'changed parameter')} set back"
            if not found.names:
                work.staged.extend(self.plain({path: name}).staged)
                continue
            work.rewrites.append(found.rewrite)
            if not self.dry_run:
                checkpoint.store(self.workspace.store, found.rewrite.manifest)
        return work


def _note(done: UpdatedFile) -> str:
    count = plural(len(done.exact) + len(done.residual), "parameter")
    what = f"{count} updated"
    if done.applied:
        what = f"the file held the update of {count} already, so that it was not applied again"
        if done.residual:
            what += f"; {len(done.residual)} of them differ from it by rounding, which is kept beside it"
    return f"{what}; an update of {human_bytes(done.update_bytes)}"
