"""The stat cache: the manifest of a file that has not been touched since it was last read or written."""

from __future__ import annotations

import os
import time
from typing import TYPE_CHECKING

from blake3 import blake3

from git_theta_ext.errors import ThetaError
from git_theta_ext.model.manifest import Manifest

if TYPE_CHECKING:
    from pathlib import Path

    from git_theta_ext.store.blobs import Store

RACY_NS = 50_000_000
"""A file changed less than this ago may change again without its times moving: clocks of files tick every few ms."""


class StatCache:
    """Remembers manifests by path and stat in the store's index.

    Args:
        store: Its index remembers; a manifest whose tensors it lacks is never returned.
    """

    def __init__(self, store: Store) -> None:
        self._store = store

    def get(self, path: Path, format_name: str | None = None) -> bytes | None:
        """Return the manifest of a file if it is certain not to have changed, and all of it is stored.

        Args:
            path: Absolute.
            format_name: The ``theta-format`` attribute now in force; another one than then gives another manifest.
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
        return None if self._store.missing(digests) else manifest

    def put(
        self,
        path: Path,
        stat: os.stat_result,
        manifest: bytes,
        format_name: str | None = None,
        *,
        written: bool = False,
    ) -> None:
        """Remember a file's manifest.

        Args:
            path: Absolute.
            stat: Of the file when it was read or written.
            manifest: Canonical bytes.
            format_name: As for ``get``.
            written: We made the file and set its times back, so any change by others shows.
        """
        if written or time.time_ns() - max(stat.st_mtime_ns, stat.st_ctime_ns) > RACY_NS:
            self._store.index.record_manifest(
                os.fspath(path), _key(stat, format_name), blake3(manifest).digest(), manifest
            )


def _key(stat: os.stat_result, format_name: str | None) -> str:
    return f"{format_name or '-'}:{stat.st_dev}:{stat.st_ino}:{stat.st_size}:{stat.st_mtime_ns}:{stat.st_ctime_ns}"
