"""The stat cache: the manifests of files that have not changed since they were last read or written."""

from __future__ import annotations

import errno
import os
import time
from contextlib import suppress
from typing import TYPE_CHECKING

from git_theta_ext.checkpoint.unfinished import NAMELESS
from git_theta_ext.checkpoint.writers import being_written
from git_theta_ext.errors import ThetaError
from git_theta_ext.model.manifest import Manifest
from git_theta_ext.store.stat_records import StatRecords
from git_theta_ext.store.temporary import temporary
from git_theta_ext.util.system import NOFOLLOW, NONBLOCK, open_file

if TYPE_CHECKING:
    from pathlib import Path

    from git_theta_ext.store.store import Store

_COARSEST_NS = 2_100_000_000
"""Times of files have a resolution of two seconds at worst (FAT)."""


class StatCache:
    """Caches manifests by path and stat in the index of a store.

    Args:
        store: The store.
    """

    def __init__(self, store: Store) -> None:
        self._store = store
        self._records = StatRecords(store.index)

    def get(self, path: Path, format_name: str | None = None, *, stored: bool = True) -> bytes | None:
        """Return the manifest of a file if the file has certainly not changed; otherwise None.

        Args:
            path: Absolute path.
            format_name: Current value of the ``theta-format`` attribute, which the manifest depends on.
            stored: Whether to require that verified packs have all of its tensors. Not needed to compare files.
        """
        try:
            stat = path.lstat()
        except OSError:
            return None
        manifest = self._records.get(os.fspath(path), _key(stat, format_name))
        if manifest is None or not stored:
            return manifest
        try:
            digests = [digest for digest, _ in Manifest.parse(manifest).digests()]
        except ThetaError:
            return None
        return None if self._store.touch_and_find_missing(digests) else manifest

    def clock(self, path: Path) -> int:
        """Return the time that the file system gives to a file that changes now, in ns since the epoch.

        It can differ from the clock of this machine: some have a resolution of two seconds, and a server has its own.

        Args:
            path: Path of a file on the file system.
        """
        with suppress(OSError):
            if NAMELESS:
                return _time_of_new(path.parent, NAMELESS, path.parent)
        with suppress(OSError):
            return _time_of_new(temporary(self._store.root), os.O_CREAT | os.O_EXCL, path.parent)
        return time.time_ns() - _COARSEST_NS

    def put(self, path: Path, stat: os.stat_result, manifest: bytes, format_name: str | None, clock: int) -> None:
        """Cache the manifest of a file that was read, unless the file could still change without a change of its times.

        Args:
            path: Absolute path.
            stat: Stat of the file, the same before and after it was read.
            manifest: Canonical bytes of the manifest.
            format_name: As for ``get``.
            clock: Result of ``clock`` from before the file was read.
        """
        if is_settled(stat, clock) and not _open_for_writing(path):
            self._record(path, stat, manifest, format_name)

    def put_written(self, path: Path, stat: os.stat_result, manifest: bytes, format_name: str | None) -> None:
        """Cache the manifest of a file that was written and backdated, so that any later change shows.

        Args:
            path: Absolute path.
            stat: Stat of the file after it was backdated.
            manifest: Canonical bytes of the manifest.
            format_name: As for ``get``.
        """
        if stat.st_mtime_ns < stat.st_ctime_ns:  # the time of the file system when the file was backdated
            self._record(path, stat, manifest, format_name)

    def _record(self, path: Path, stat: os.stat_result, manifest: bytes, format_name: str | None) -> None:
        self._records.put(os.fspath(path), _key(stat, format_name), manifest)


def is_settled(stat: os.stat_result, clock: int) -> bool:
    """Return whether any later write changes the times of a file.

    Args:
        stat: Stat of the file, from before ``clock``.
        clock: Result of ``StatCache.clock``.
    """
    return max(stat.st_mtime_ns, stat.st_ctime_ns) < clock


def _time_of_new(path: Path, flag: int, directory: Path) -> int:
    descriptor = open_file(path, os.O_RDWR | flag, 0o600)
    try:
        if flag != NAMELESS:
            path.unlink()
        made = os.fstat(descriptor)
        if made.st_dev != directory.stat().st_dev:
            raise OSError(errno.EXDEV, os.strerror(errno.EXDEV))
        return made.st_ctime_ns
    finally:
        os.close(descriptor)


def _open_for_writing(path: Path) -> bool:
    # A program that has the file mapped can write to dirty pages without a change of its times.
    try:
        descriptor = open_file(path, os.O_RDONLY | NOFOLLOW | NONBLOCK)
    except OSError:
        return False
    try:
        return being_written(descriptor)
    finally:
        os.close(descriptor)


def _key(stat: os.stat_result, format_name: str | None) -> str:
    return f"{format_name or '-'}:{stat.st_dev}:{stat.st_ino}:{stat.st_size}:{stat.st_mtime_ns}:{stat.st_ctime_ns}"
