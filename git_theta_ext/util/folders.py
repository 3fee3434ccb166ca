"""Temporary directories, of which the next one removes what killed processes left."""

from __future__ import annotations

import os
import re
import shutil
import tempfile
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from git_theta_ext.util.files import reporting_os_errors
from git_theta_ext.util.system import is_own, lock, open_directory

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

_NAME = re.compile("[.][0-9a-f]{16}[.]theta-folder")


@contextmanager
def temporary_folder(parent: Path) -> Iterator[Path]:
    """Create a directory that is removed at the end of the block.

    It is locked while it is in use. A killed process holds no locks, so the next temporary directory in the same
    parent replaces the one that it left.

    Args:
        parent: An existing directory, in which only git theta makes such directories.

    Raises:
        StoreError: The directory cannot be created.
    """
    _clear_leftovers(parent)
    with reporting_os_errors(parent):
        folder, descriptor = _locked(partial(_created, parent))
    with _in_use(folder, descriptor):
        yield folder


@contextmanager
def private_directory(prefix: str) -> Iterator[Path]:
    """Create a directory for temporary files of this user, which nobody else can read; see ``temporary_folder``.

    Args:
        prefix: What its name begins with, and those of the directories that killed processes of this user have left.
    """
    for path in Path(tempfile.gettempdir()).glob(f"{prefix}*"):
        with suppress(OSError):
            if is_own(path.lstat()):
                _remove_unlocked(path)
    folder, descriptor = _locked(lambda: Path(tempfile.mkdtemp(prefix=prefix)))
    with _in_use(folder, descriptor):
        yield folder


def _created(parent: Path) -> Path:
    folder = parent / f".{os.urandom(8).hex()}.theta-folder"
    folder.mkdir()
    return folder


def _locked(create: Callable[[], Path]) -> tuple[Path, int]:
    while True:
        folder = create()
        with suppress(FileNotFoundError):  # another process removed it before it was locked
            descriptor = open_directory(folder)
            with suppress(OSError):  # without locks on this file system, leftovers look like directories in use
                lock(descriptor)
            if folder.exists():
                return folder, descriptor
            os.close(descriptor)


@contextmanager
def _in_use(folder: Path, descriptor: int) -> Iterator[None]:
    try:
        yield
    finally:
        shutil.rmtree(folder, ignore_errors=True)
        os.close(descriptor)


def _clear_leftovers(parent: Path) -> None:
    with suppress(OSError), os.scandir(parent) as entries:
        for entry in entries:
            if _NAME.fullmatch(entry.name):
                with suppress(OSError):  # such as one of another user
                    _remove_unlocked(Path(entry.path))


def _remove_unlocked(path: Path) -> None:
    descriptor = open_directory(path, follow=False)
    try:
        lock(descriptor, wait=False)
        shutil.rmtree(path, ignore_errors=True)
    finally:
        os.close(descriptor)
