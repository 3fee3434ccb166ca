"""Temporary directories of processes that may be killed: the next process removes what is left."""

from __future__ import annotations

import os
import shutil
import tempfile
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING

from git_theta_ext.util.system import lock

if TYPE_CHECKING:
    from collections.abc import Iterator


@contextmanager
def private_directory(prefix: str) -> Iterator[Path]:
    """Give a temporary directory that nobody else can read, and remove it after the block.

    Those with the same prefix that killed processes of this user have left are removed before.

    Args:
        prefix: What its name begins with.
    """
    clear_abandoned(prefix)
    path, descriptor = _locked_directory(prefix)
    try:
        yield path
    finally:
        shutil.rmtree(path, ignore_errors=True)
        os.close(descriptor)


def _locked_directory(prefix: str) -> tuple[Path, int]:
    """Make a directory and lock it; again if another process took it for an abandoned one before it was locked."""
    while True:
        path = Path(tempfile.mkdtemp(prefix=prefix))
        with suppress(FileNotFoundError):
            descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
            with suppress(OSError):  # without locks on this file system, what is left looks like a directory in use
                lock(descriptor)
            if path.exists():
                return path, descriptor
            os.close(descriptor)


def clear_abandoned(prefix: str) -> None:
    """Remove the directories with a prefix that no process uses."""
    for path in Path(tempfile.gettempdir()).glob(f"{prefix}*"):
        with suppress(OSError):
            if path.lstat().st_uid != os.getuid():
                continue
            descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_DIRECTORY)
            try:
                lock(descriptor, wait=False)
                shutil.rmtree(path, ignore_errors=True)
            finally:
                os.close(descriptor)
