"""Record checkpoints that were written in git's index and the stat cache, so that they are not read again."""

from __future__ import annotations

import os
import time
from contextlib import suppress
from typing import TYPE_CHECKING

from git_theta_ext.checkpoint.populate import read_layout
from git_theta_ext.checkpoint.stat_cache import StatCache
from git_theta_ext.checkpoint.unfinished import clear_leftovers
from git_theta_ext.errors import ThetaError
from git_theta_ext.git.attributes import theta_paths
from git_theta_ext.git.index_patch import LOCK_SECONDS, StatWords, Update, patch_file, refresh
from git_theta_ext.git.objects import blob_id, read_manifests
from git_theta_ext.model.manifest import MAX_MANIFEST, is_manifest
from git_theta_ext.operations.filter.pending import change_pending, read_pending
from git_theta_ext.records import dataclass, field
from git_theta_ext.util.files import reporting_os_errors, sync_file

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from git_theta_ext.git.repository import Repository
    from git_theta_ext.model.manifest import Manifest
    from git_theta_ext.operations.workspace import Workspace

_PATIENCE = 10.0
"""Seconds to wait for another process that locks the index. Until it is updated, git shows the files as modified."""

_BATCH_SECONDS = 1.0


@dataclass
class WrittenFiles:
    """Checkpoints that were written over their manifests, and that are not yet recorded in git's index.

    Args:
        workspace: The repository, with a work tree, and its store.
        formats: Path to the ``theta-format`` attribute.
    """

    workspace: Workspace
    formats: Mapping[str, str | None]
    _new: dict[str, tuple[bytes, os.stat_result, os.stat_result]] = field(default_factory=dict)
    _patched_at: float = field(default_factory=time.monotonic)

    def add(self, path: str, content: bytes, before: os.stat_result, after: os.stat_result) -> None:
        """Record a checkpoint. The index is updated for several at a time.

        Args:
            path: Path relative to the top of the work tree.
            content: The manifest.
            before: The stat data of the manifest.
            after: The stat data of the checkpoint.

        Raises:
            StoreError: The file cannot be flushed.
        """
        full = self.workspace.repo.folder / path
        flush_if_asked(self.workspace.repo, full)
        StatCache(self.workspace.store).put_written(full, after, content, self.formats.get(path))
        self._new[path] = content, before, after
        if time.monotonic() - self._patched_at >= _BATCH_SECONDS:
            self._patch(0)

    def knows(self, path: str) -> bool:
        """Return whether git theta wrote or read the current content of a file."""
        full = self.workspace.repo.folder / path
        return StatCache(self.workspace.store).get(full, self.formats.get(path)) is not None

    def finish(self, *, hurry: bool = False) -> tuple[set[str], list[ThetaError]]:
        """Update the index for all remaining files.

        Args:
            hurry: Whether the user is waiting for the command to end.

        Returns:
            The paths whose entries could not be updated, and the errors. A path is not among them if the index has
            another version of it.
        """
        self._patch(LOCK_SECONDS if hurry else _PATIENCE)
        try:
            same = {} if hurry else refresh(self.workspace.repo.run, self._updates())
        except ThetaError as error:
            return set(self._new), [error]
        if not hurry:
            for path in [path for path in self._new if os.fsencode(path) not in same]:
                self._date(path)
            self._new.clear()
        return set(self._new), []

    def _updates(self) -> dict[bytes, Update]:
        kind = self.workspace.repo.object_format
        return {
            os.fsencode(path): Update(bytes.fromhex(blob_id(content, kind)), StatWords.of(before), StatWords.of(after))
            for path, (content, before, after) in self._new.items()
        }

    def _patch(self, wait: float) -> None:
        repo = self.workspace.repo
        if self._new:
            for path in patch_file(repo.index_path, self._updates(), repo.object_format, wait):
                del self._new[os.fsdecode(path)]
        self._patched_at = time.monotonic()

    def _date(self, path: str) -> None:
        content, before, after = self._new[path]
        dated = _date_as_manifest(self.workspace.repo.folder / path, before, after)
        if dated is not None:
            StatCache(self.workspace.store).put_written(
                self.workspace.repo.folder / path, dated, content, self.formats.get(path)
            )


def flush_if_asked(repo: Repository, path: Path) -> None:
    """Flush a file to disk if ``core.fsync`` includes the index, which records its stat data.

    Git itself never flushes the files that it checks out. By default git theta does not either: a checkpoint whose end
    is lost in a power failure is shorter than the index records.

    Raises:
        StoreError: The file cannot be flushed.
    """
    if not repo.config.fsync_index:
        return
    with reporting_os_errors(path):
        sync_file(path)


def finish_written_files(workspace: Workspace) -> None:
    """Record in the index the checkpoints that an earlier command wrote, but did not record before it was stopped.

    Raises:
        ThetaError: A manifest is broken, or git failed.
    """
    repo = workspace.repo
    pending = read_pending(repo)
    for path in pending:
        clear_leftovers(repo.folder / path)
    paths = [path for path in pending if not _is_manifest_file(repo.folder / path)]
    if not paths:
        return
    among = set(paths)
    entries = {entry.path: entry.oid for entry in repo.entries(None) if entry.path in among and not entry.stage}
    formats = theta_paths(repo.run, entries)
    manifests = read_manifests(repo, {entries[path]: path for path in formats})
    updates: dict[bytes, Update] = {}
    for path, name in formats.items():
        manifest = manifests.get(entries[path])
        stat = None if manifest is None else _unchanged(workspace, path, name, manifest)
        if stat is not None:
            updates[os.fsencode(path)] = Update(bytes.fromhex(entries[path]), None, StatWords.of(stat))
    patched = patch_file(repo.index_path, updates, repo.object_format) if updates else set()
    if left := {path: update for path, update in updates.items() if path not in patched}:
        patched |= refresh(repo.run, left)
    change_pending(repo, drop=among - {os.fsdecode(path) for path in updates.keys() - patched})


def _is_manifest_file(full: Path) -> bool:
    with suppress(OSError):
        if full.lstat().st_size <= MAX_MANIFEST and not full.is_symlink():
            with full.open("rb") as file:
                return is_manifest(file.read(64))
    return False


def _unchanged(workspace: Workspace, path: str, format_name: str | None, manifest: Manifest) -> os.stat_result | None:
    """Return the stat data of a file with a manifest's content; None if it has other content or does not exist."""
    store = workspace.store
    from git_theta_ext.checkpoint.clean import describe
    from git_theta_ext.util.file_bytes import open_bytes

    full = workspace.repo.folder / path
    try:
        before = full.lstat()
        content = StatCache(store).get(full, format_name)
        layout = None if content is not None else read_layout(manifest, store, path)
        if layout is not None and (layout.packings or before.st_size == layout.nbytes):
            data = open_bytes(full, path)
            described = describe(data, path, format_name, threads=store.threads, root=store.root)
            content = described.manifest.to_bytes()
        same = content == manifest.to_bytes() and StatWords.of(full.lstat()) == StatWords.of(before)
    except (OSError, ThetaError):
        return None
    return before if same else None


def _date_as_manifest(full: Path, before: os.stat_result, after: os.stat_result) -> os.stat_result | None:
    """Give a checkpoint its manifest's time, if the index has another version (``git restore --source``).

    With an earlier time it could look like that version, whose time is earlier as well: it may have the same size, the
    same second and, as inodes are reused, the same inode. Git would then see no change.

    Args:
        full: The checkpoint.
        before: Stat data of the manifest.
        after: Stat data of the checkpoint as we wrote it.

    Returns:
        The new stat data, or None if another process has written to the checkpoint.
    """
    with suppress(OSError):
        if StatWords.of(full.lstat()) == StatWords.of(after):
            os.utime(full, ns=(before.st_mtime_ns, before.st_mtime_ns))
            return full.lstat()
    return None
