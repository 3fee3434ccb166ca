"""Temporary files in a store, and what crashes left of them."""

from __future__ import annotations

import os
import time
from contextlib import suppress
from typing import IO, TYPE_CHECKING

from git_theta_ext.util.system import lock, open_directory

if TYPE_CHECKING:
    from pathlib import Path

BACKUP = ".backup"
"""Suffix of a temporary file that is a hard link to a file of the user."""

WORK = ".work"
"""Suffix of a directory in which jobs leave packs."""

_STALE_SECONDS = 24 * 3600


def temporary(root: Path) -> Path:
    """Return an unused path for a temporary file in the store."""
    directory = root / "tmp"
    directory.mkdir(parents=True, exist_ok=True)
    return directory / os.urandom(16).hex()


def spool(root: Path | None) -> IO[bytes]:
    """Open an unnamed temporary file in a directory, such as the store's, or elsewhere if that is read-only or None."""
    import tempfile  # only few commands need it

    if root is not None:
        with suppress(OSError):
            root.mkdir(parents=True, exist_ok=True)
            return tempfile.TemporaryFile(dir=root)
    return tempfile.TemporaryFile()


def clear_stale(root: Path) -> None:
    """Remove temporary files that a crash left in the store at least a day ago."""
    with suppress(FileNotFoundError):
        for left in (root / "tmp").iterdir():
            with suppress(OSError):
                if left.suffix == WORK:
                    _clear_stale_work(left)
                    continue
                status = left.stat()
                # A hard link has the time of its file, however new the link is, also when it is the only link left.
                # When a link was made or removed is another time.
                changed = status.st_ctime if left.suffix == BACKUP else status.st_mtime
                if status.st_nlink == 1 and time.time() - changed > _STALE_SECONDS:
                    left.unlink()


def _clear_stale_work(area: Path) -> None:
    """Remove a directory in which no job has written for a day, and that no process uses."""
    import shutil

    newest = max(path.lstat().st_mtime for path in (area, *area.rglob("*")))
    if time.time() - newest > _STALE_SECONDS:
        descriptor = open_directory(area)
        try:
            lock(descriptor, wait=False)
            shutil.rmtree(area, ignore_errors=True)
        finally:
            os.close(descriptor)
