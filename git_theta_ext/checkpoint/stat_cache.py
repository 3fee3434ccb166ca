"""The stat cache: the manifest of a file that has not been touched since it was last read or written."""

from __future__ import annotations

import errno
import os
import time
from contextlib import suppress
from typing import TYPE_CHECKING

from blake3 import blake3

from git_theta_ext.checkpoint.unfinished import NAMELESS
from git_theta_ext.checkpoint.writers import being_written
from git_theta_ext.errors import ThetaError
from git_theta_ext.model.manifest import Manifest
from git_theta_ext.store.packs.writer import temporary

if TYPE_CHECKING:
    from pathlib import Path

    from git_theta_ext.store.store import Store

_COARSEST_NS = 2_100_000_000
"""Times of files have two seconds at the coarsest (FAT)."""


class StatCache:
    """Remembers manifests by path and stat in the store's index.

    Args:
        store: Its index remembers.
    """

    def __init__(self, store: Store) -> None:
        self._store = store

    def get(self, path: Path, format_name: str | None = None, *, stored: bool = True) -> bytes | None:
        """Return the manifest of a file if it is certain not to have changed.

        Args:
            path: Absolute.
            format_name: The ``theta-format`` attribute now in force; another one than then gives another manifest.
            stored: Only if verified packs hold all that it names; not for those who only look.
        """
        try:
            stat = path.lstat()
        except OSError:
            return None
        manifest = self._store.index.manifest_of(os.fspath(path), _key(stat, format_name))
        if manifest is None:
            return None
        try:
            digests = [digest for digest, _ in Manifest.parse(manifest).digests()]
        except ThetaError:
            return None
        return None if stored and self._store.touch_and_find_missing(digests) else manifest

    def clock(self, path: Path) -> int:
        """Return the time that the file system gives to a file that is changed now, in ns since the epoch.

        File systems have clocks of their own: some tick every two seconds, and a server's may be ahead of ours.

        Args:
            path: Of a file on the file system.
        """
        with suppress(OSError):
            if NAMELESS:
                return _time_of_new(path.parent, NAMELESS, path.parent)
        with suppress(OSError):
            return _time_of_new(temporary(self._store.root), os.O_CREAT | os.O_EXCL, path.parent)
        return time.time_ns() - _COARSEST_NS

    def put(self, path: Path, stat: os.stat_result, manifest: bytes, format_name: str | None, clock: int) -> None:
        """Remember the manifest of a file that was read, unless it could change again without its times moving.

        Args:
            path: Absolute.
            stat: Of the file, before and after it was read.
            manifest: Canonical bytes.
            format_name: As for ``get``.
            clock: What ``clock`` returned before the file was read.
        """
        if max(stat.st_mtime_ns, stat.st_ctime_ns) < clock and not _open_for_writing(path):
            self._record(path, stat, manifest, format_name)

    def put_written(self, path: Path, stat: os.stat_result, manifest: bytes, format_name: str | None) -> None:
        """Remember the manifest of a file that we made and dated back, so that any change by others shows.

        Args:
            path: Absolute.
            stat: Of the file after it was dated.
            manifest: Canonical bytes.
            format_name: As for ``get``.
        """
        if stat.st_mtime_ns < stat.st_ctime_ns:  # which is the time of the file system when it was dated
            self._record(path, stat, manifest, format_name)

    def _record(self, path: Path, stat: os.stat_result, manifest: bytes, format_name: str | None) -> None:
        self._store.index.record_manifest(os.fspath(path), _key(stat, format_name), blake3(manifest).digest(), manifest)


def _time_of_new(path: Path, flag: int, folder: Path) -> int:
    descriptor = os.open(path, os.O_RDWR | os.O_CLOEXEC | flag, 0o600)
    try:
        if flag != NAMELESS:
            path.unlink()
        made = os.fstat(descriptor)
        if made.st_dev != folder.stat().st_dev:
            raise OSError(errno.EXDEV, os.strerror(errno.EXDEV))
        return made.st_ctime_ns
    finally:
        os.close(descriptor)


def _open_for_writing(path: Path) -> bool:
    # One who has it mapped may write again to pages that were written to already, without the times moving.
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError:
        return False
    try:
        return being_written(descriptor)
    finally:
        os.close(descriptor)


def _key(stat: os.stat_result, format_name: str | None) -> str:
    return f"{format_name or '-'}:{stat.st_dev}:{stat.st_ino}:{stat.st_size}:{stat.st_mtime_ns}:{stat.st_ctime_ns}"
