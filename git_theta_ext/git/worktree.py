"""Put checkpoints in the place of their manifests in the work tree, without git noticing a change."""

from __future__ import annotations

import hashlib
import json
import os
import stat
import time
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING

from git_theta_ext.checkpoint.cache import RACY_NS, StatCache
from git_theta_ext.checkpoint.populate import populate
from git_theta_ext.errors import MissingError, ThetaError
from git_theta_ext.git.attributes import theta_paths
from git_theta_ext.git.index_stat import StatWords, Update, patch_file, refresh
from git_theta_ext.model.bounded_json import read_json
from git_theta_ext.model.manifest import MAX_MANIFEST, Manifest, is_manifest
from git_theta_ext.store.pool import no_progress
from git_theta_ext.store.writer import explained, temporary

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping
    from pathlib import Path

    from git_theta_ext.git.repository import Repository
    from git_theta_ext.store.blobs import Store

_CLOCK_NS = 20_000_000
"""The clock of file times may be this much behind the one that is asked for the time."""


@dataclass(frozen=True)
class Wanted:
    """A checkpoint to be written where its manifest lies.

    Attributes:
        content: The manifest.
        since_ns: The file must have been written after this, in ns since the epoch: git also asks for manifests that it
            does not write, for a diff or an archive. 0 where it is known to be wanted.
    """

    content: bytes
    since_ns: int = 0


def read_pending(repo: Repository) -> list[str]:
    """Return the paths whose checkpoints an earlier command did not get to write."""
    try:
        lines = _pending_path(repo).read_text("utf-8").splitlines()
        return [path for line in lines if isinstance(path := read_json(line), str)]
    except (OSError, ValueError):
        return []


def manifest_at(repo: Repository, path: str) -> bytes | None:
    """Return the manifest that lies in the work tree in the place of a checkpoint, or None."""
    full = _inside(repo, path)
    if full is None:
        return None
    with suppress(OSError):
        found = full.lstat()
        if stat.S_ISREG(found.st_mode) and found.st_size <= MAX_MANIFEST:
            with full.open("rb") as file:
                head = file.read(64)
                if is_manifest(head):
                    return head + file.read()
    return None


def populate_wanted(
    repo: Repository,
    store: Store,
    wanted: Mapping[str, Wanted],
    ensure: Callable[[Iterable[Manifest]], None],
    advance: Callable[[int], None] = no_progress,
) -> list[ThetaError]:
    """Write checkpoints over their manifests and tell the index that nothing changed.

    What is left undone, for whatever reason, is noted in ``$GIT_DIR/theta/pending`` for the next command.

    Args:
        repo: With a work tree.
        store: Its store.
        wanted: By path below the top of the work tree.
        ensure: Brings what the store lacks of some manifests from a remote; raises if it cannot.
        advance: Told the number of bytes written, as it goes.

    Returns:
        What went wrong; the other files are in place.
    """
    pending = {path: Wanted(content) for path in read_pending(repo) if (content := manifest_at(repo, path))}
    todo = {path: job for path, job in {**pending, **wanted}.items() if _still_there(repo, path, job)}
    manifests, failures = _parsed(todo)
    _write_pending(repo, manifests)
    try:
        ensure(manifests.values())
    except ThetaError as error:
        # Files that need nothing from there are written all the same.
        failures.append(error)
    formats = theta_paths(repo.run, manifests)
    updates: dict[bytes, Update] = {}
    written: dict[str, tuple[os.stat_result, os.stat_result]] = {}
    undone: list[str] = list(manifests)
    for path, manifest in manifests.items():
        try:
            if failures and store.missing(digest for digest, _ in manifest.digests()):
                continue
            try:
                stats = _replace(repo, store, path, manifest, advance)
            except MissingError:  # pruned at this very moment, since a remote has it
                ensure([manifest])
                stats = _replace(repo, store, path, manifest, advance)
        except ThetaError as error:
            failures.append(error)
            continue
        undone.remove(path)
        if stats is not None:
            before, after = written[path] = stats
            content = manifest.to_bytes()
            StatCache(store).put(repo.folder / path, after, content, formats.get(path), written=True)
            oid = _blob_id(content, repo.object_format)
            updates[os.fsencode(path)] = Update(oid, StatWords.of(before), StatWords.of(after))
    patched = patch_file(repo.index_path, updates, repo.object_format) if updates else set()
    try:
        patched |= refresh(repo.run, {path: update for path, update in updates.items() if path not in patched})
    except ThetaError as error:
        failures.append(error)
    for path in map(os.fsdecode, updates.keys() - patched):
        before, after = written[path]
        dated = _date_as_manifest(repo.folder / path, before, after)
        if dated is not None:
            old = time.time_ns() - before.st_mtime_ns > RACY_NS  # so that any change by others shows
            content = manifests[path].to_bytes()
            StatCache(store).put(repo.folder / path, dated, content, formats.get(path), written=old)
    _write_pending(repo, undone)
    return failures


def _parsed(todo: Mapping[str, Wanted]) -> tuple[dict[str, Manifest], list[ThetaError]]:
    manifests: dict[str, Manifest] = {}
    failures: list[ThetaError] = []
    for path, job in todo.items():
        try:
            manifest = Manifest.parse(job.content)
        except ThetaError as error:
            failures.append(type(error)(f"{path}: {error.message}", hint=error.hint))
            continue
        if not manifest.conflicted:  # a conflict stays text until it is resolved
            manifests[path] = manifest
    return manifests, failures


def _still_there(repo: Repository, path: str, job: Wanted) -> bool:
    if manifest_at(repo, path) != job.content:
        return False
    try:
        return (repo.folder / path).lstat().st_ctime_ns >= job.since_ns - _CLOCK_NS
    except OSError:
        return False


def _replace(
    repo: Repository, store: Store, path: str, manifest: Manifest, advance: Callable[[int], None]
) -> tuple[os.stat_result, os.stat_result] | None:
    """Populate one path; return the stat of the manifest and that of the checkpoint, None if it is not wanted."""
    full = repo.folder / path
    try:
        before = full.lstat()
    except OSError:
        return None  # gone meanwhile, and so is the wish for it
    if manifest_at(repo, path) != manifest.to_bytes():
        return None
    return before, populate(manifest, store, full, stat.S_IMODE(before.st_mode), advance)


def _date_as_manifest(full: Path, before: os.stat_result, after: os.stat_result) -> os.stat_result | None:
    """Date a checkpoint as git dated its manifest, where the index has another version (``git restore --source``).

    Dated back it could look like that version, which was dated back as well: it may have the same size, the same second
    and, since inodes are used again, the same inode. Git would then see no change.

    Args:
        full: The checkpoint.
        before: Of the manifest.
        after: Of the checkpoint, as we wrote it.

    Returns:
        The new stat, or None where somebody else has written to it.
    """
    with suppress(OSError):
        if StatWords.of(full.lstat()) == StatWords.of(after):
            os.utime(full, ns=(before.st_mtime_ns, before.st_mtime_ns))
            return full.lstat()
    return None


def _blob_id(content: bytes, object_format: str) -> bytes:
    return hashlib.new(object_format, b"blob %d\0" % len(content) + content, usedforsecurity=False).digest()


def _inside(repo: Repository, path: str) -> Path | None:
    """Return a path's place, or None if it leaves the work tree, be it through a symbolic link."""
    full = repo.folder / path
    top = os.path.realpath(repo.folder)
    parent = os.path.realpath(full.parent)
    return full if parent == top or parent.startswith(top.rstrip(os.sep) + os.sep) else None


def _pending_path(repo: Repository) -> Path:
    return repo.git_dir / "theta" / "pending"


def _write_pending(repo: Repository, paths: Iterable[str]) -> None:
    place = _pending_path(repo)
    text = "".join(json.dumps(path) + "\n" for path in paths)
    if not text:
        place.unlink(missing_ok=True)
        return
    with explained(place):
        place.parent.mkdir(parents=True, exist_ok=True)
        unfinished = temporary(place.parent)
        unfinished.write_text(text, "utf-8")
        unfinished.replace(place)
