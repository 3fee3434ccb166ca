"""Stage checkpoints without git's pipe: store the tensors, write the manifest as an object, update the index."""

from __future__ import annotations

import os
import shutil
import stat as stat_module
from contextlib import suppress
from typing import TYPE_CHECKING

from git_theta_ext.checkpoint.clean import clean
from git_theta_ext.checkpoint.populate import populate
from git_theta_ext.checkpoint.replace import Expected, replace_file
from git_theta_ext.checkpoint.stat_cache import StatCache, is_settled
from git_theta_ext.errors import ChangedError, FormatError, RepositoryError, UsageError
from git_theta_ext.git.entries import TreeEntry, update_index
from git_theta_ext.git.index_patch import StatWords, Update, patch_file
from git_theta_ext.git.objects import write_blobs
from git_theta_ext.git.pathspecs import worktree_of
from git_theta_ext.git.tracked_config import is_strict
from git_theta_ext.model.manifest import MAX_MANIFEST, Manifest, is_manifest
from git_theta_ext.operations.filter.clean import echo_manifest
from git_theta_ext.operations.filter.content_check import check_content, refuse_shown_text
from git_theta_ext.operations.filter.written_files import flush_if_asked
from git_theta_ext.records import dataclass
from git_theta_ext.store.temporary import BACKUP, temporary
from git_theta_ext.util.file_bytes import open_bytes
from git_theta_ext.util.files import reporting_os_errors, temporary_beside
from git_theta_ext.util.quoting import shown_path
from git_theta_ext.util.threads import no_progress

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from git_theta_ext.git.repository import Repository
    from git_theta_ext.operations.workspace import Workspace

_EXECUTABLE = 0o100
# The stat data that `git update-index --index-info` writes: git then knows nothing of the file.
_NO_STAT = StatWords(0, 0, 0, 0, 0, 0, 0, 0, 0)


@dataclass(frozen=True)
class Staged:
    """A checkpoint whose tensors are stored, ready for the index.

    Attributes:
        path: Path relative to the top of the work tree.
        stat: Stat data of the file that was read.
        manifest: Its manifest.
        note: A note for the user.
    """

    path: str
    stat: os.stat_result
    manifest: Manifest
    note: str | None = None

    @property
    def content(self) -> bytes:
        """The file as git stores it: its manifest, or nothing for an empty file."""
        return self.manifest.to_bytes() if self.stat.st_size else b""


@dataclass(frozen=True)
class Rewrite:
    """A checkpoint whose file is to be rewritten with other content.

    Attributes:
        path: Path relative to the top of the work tree.
        stat: Stat data of the file when it was read.
        manifest: The manifest of the new content, all of which is stored.
        format_name: From the ``theta-format`` attribute.
        note: A note for the user.
    """

    path: str
    stat: os.stat_result
    manifest: Manifest
    format_name: str | None = None
    note: str | None = None


def regular_file(repo: Repository, path: str) -> os.stat_result:
    """Return the stat data of a file that can be staged.

    Raises:
        UsageError: It is a symbolic link, another special file, or missing.
    """
    try:
        stat = (worktree_of(repo) / path).lstat()
    except OSError as error:
        raise UsageError(
            f"{repo.shown(path)}: {error.strerror}", hint=f"git rm --cached {repo.argument(path)}"
        ) from error
    if stat_module.S_ISLNK(stat.st_mode):
        raise UsageError(
            f"{repo.shown(path)} is a symbolic link", hint=f"git add {repo.argument(path)} stages the link"
        )
    if not stat_module.S_ISREG(stat.st_mode):
        raise UsageError(f"{repo.shown(path)} is not a file")
    return stat


def store_file(workspace: Workspace, path: str, format_name: str | None, advance: Callable[[int], None]) -> Staged:
    """Store a checkpoint's tensors without changing the index.

    Args:
        workspace: The repository and its store.
        path: Path relative to the top of the work tree.
        format_name: From the ``theta-format`` attribute; None to detect it.
        advance: Called with the number of bytes processed since the last call.

    Raises:
        UsageError: It is not a regular file.
        FormatError: It is malformed, and ``theta.strict`` is set.
        ManifestError: It is a manifest that is broken or has conflicts.
        ChangedError: Another process wrote to it in the meantime.
        RepositoryError: It cannot be read.
        StoreError: The store cannot be written.
    """
    repo = workspace.repo
    full = worktree_of(repo) / path
    before = regular_file(repo, path)
    cache = StatCache(workspace.store)
    cached = cache.get(full, format_name)
    if cached is not None:
        advance(before.st_size)
        return Staged(path, before, Manifest.parse(cached))
    clock = cache.clock(full)
    try:
        data = open_bytes(full, path, settled=is_settled(before, clock))
    except OSError as error:
        raise RepositoryError(f"{shown_path(path)}: {error.strerror}") from error
    if is_manifest(data):
        return Staged(path, before, Manifest.parse(echo_manifest(repo, bytes(data[: MAX_MANIFEST + 1]), path)))
    refuse_shown_text(repo, path, data)
    try:
        described = clean(data, path, workspace.store, format_name, advance, strict=lambda: is_strict(repo))
    except FormatError:  # a file that is being written may be malformed
        _check_unchanged(repo, path, before)
        raise
    _check_unchanged(repo, path, before)
    if described.scan.malformed is None:
        cache.put(full, before, described.manifest.to_bytes(), format_name, clock)
    note = check_content(workspace, path, described, data, format_name)
    return Staged(path, before, described.manifest, note)


def rewrite_and_stage(
    workspace: Workspace,
    rewrites: Sequence[Rewrite],
    staged: Sequence[Staged],
    advance: Callable[[int], None] = no_progress,
) -> tuple[list[Staged], dict[str, str]]:
    """Rewrite checkpoints and stage them together with others, all or none.

    Args:
        workspace: The repository and its store.
        rewrites: Files to write.
        staged: Files that are staged as they are.
        advance: Called with the number of bytes written since the last call.

    Returns:
        All staged checkpoints, and a mapping from path to the manifest's object id.

    Raises:
        ChangedError: Another process wrote to a file in the meantime.
        RepositoryError: The index is locked.
        StoreError: A file cannot be written.
    """
    repo, store = workspace.repo, workspace.store
    backups: dict[Path, Path] = {}
    written: dict[Path, os.stat_result] = {}
    done = list(staged)
    try:
        for item in rewrites:
            full = worktree_of(repo) / item.path
            _check_unchanged(repo, item.path, item.stat)
            with reporting_os_errors(full):
                backups[full] = _second_name(full, store.root)
            after = _rewrite(workspace, item, full, advance)
            written[full] = after
            flush_if_asked(repo, full)
            StatCache(store).put_written(full, after, item.manifest.to_bytes(), item.format_name)
            done.append(Staged(item.path, after, item.manifest, item.note))
        return done, stage_manifests(repo, done)
    except BaseException:
        for full, after in written.items():
            replace_file(backups[full], full, Expected(after))
        raise
    finally:
        for backup in backups.values():
            backup.unlink(missing_ok=True)


def _rewrite(workspace: Workspace, item: Rewrite, full: Path, advance: Callable[[int], None]) -> os.stat_result:
    after = populate(item.manifest, workspace.store, full, Expected(item.stat), advance)
    if after is None:
        raise _changed(workspace.repo, item.path, "rewritten")
    return after


def _second_name(path: Path, root: Path) -> Path:
    """Keep a file's content under another name, outside the work tree if possible."""
    beside = temporary_beside(path)
    for other in (temporary(root).with_suffix(BACKUP), beside):
        with suppress(OSError):  # another file system, or one without hard links
            other.hardlink_to(path)
            return other
    shutil.copy2(path, beside)
    return beside


def stage_manifests(repo: Repository, staged: Sequence[Staged]) -> dict[str, str]:
    """Put manifests into the index, all or none, with the stat data of their files, so that git reads none again.

    Returns:
        A mapping from path to the manifest's object id.

    Raises:
        RepositoryError: The index is locked, or git cannot write.
    """
    if not staged:
        return {}
    stored = write_blobs(repo, [item.content for item in staged])
    oids = {item.path: oid for item, oid in zip(staged, stored, strict=True)}
    modes = _modes(repo, staged)
    update_index(repo.run, (TreeEntry(path, oid, modes[path]) for path, oid in oids.items()))
    updates = {
        os.fsencode(item.path): Update(bytes.fromhex(oids[item.path]), _NO_STAT, StatWords.of(item.stat))
        for item in staged
    }
    if patch_file(repo.index_path, updates, repo.object_format) != set(updates):
        repo.run("update-index", "-q", "--refresh", check=False)
    return oids


def _check_unchanged(repo: Repository, path: str, before: os.stat_result) -> None:
    try:
        same = _identity((worktree_of(repo) / path).lstat()) == _identity(before)
    except OSError:  # it was removed
        same = False
    if not same:
        raise _changed(repo, path, "read")


def _changed(repo: Repository, path: str, work: str) -> ChangedError:
    return ChangedError(f"{shown_path(path)} changed while it was {work}", hint=f"git theta add {repo.argument(path)}")


def _identity(stat: os.stat_result) -> tuple[int, ...]:
    return (stat.st_dev, stat.st_ino, stat.st_size, stat.st_mtime_ns, stat.st_ctime_ns)


def _modes(repo: Repository, staged: Sequence[Staged]) -> dict[str, str]:
    modes = {item.path: "100755" if item.stat.st_mode & _EXECUTABLE else "100644" for item in staged}
    if not repo.config.flag("core.filemode", default=True):
        modes.update({entry.path: entry.mode for entry in repo.entries(None) if entry.path in modes and entry.regular})
    return modes
