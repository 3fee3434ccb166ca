"""Temporary files in a store, and what crashes left of them."""

from __future__ import annotations

import os
import time
from contextlib import suppress
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

_STALE_SECONDS = 24 * 3600


def temporary(root: Path) -> Path:
    """Return an unused path for a temporary file in the store."""
    directory = root / "tmp"
    directory.mkdir(parents=True, exist_ok=True)
    return directory / os.urandom(16).hex()


def clear_stale(root: Path) -> None:
    """Remove temporary files that a crash left in the store at least a day ago."""
    with suppress(FileNotFoundError):
        for left in (root / "tmp").iterdir():
            with suppress(OSError):
                status = left.stat()
                # A hard link has the times of its file, however new the link is.
                if status.st_nlink == 1 and time.time() - status.st_mtime > _STALE_SECONDS:
                    left.unlink()
