"""Locks between processes that use a store: files in the store, locked with ``flock``, released if a process dies."""

from __future__ import annotations

import os
from contextlib import contextmanager
from typing import TYPE_CHECKING

from git_theta_ext.errors import StoreError
from git_theta_ext.util.system import lock, open_file

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

NO_LOCKS = "removing and recoding packs needs a file system with locks; over NFS the server has to run lockd"
"""The hint if a file system has no locks. Reading and adding packs works without them."""


@contextmanager
def shared_lock(root: Path) -> Iterator[None]:
    """Prevent packs from being removed during a block.

    Any number of processes can hold this lock at the same time. If the store is not writable, or the file system has no
    locks, the block runs without the lock, since no process can remove packs then.

    Args:
        root: Of the store.
    """
    with _locked(root / "drop.lock", shared=True):
        yield


@contextmanager
def exclusive_lock(root: Path) -> Iterator[None]:
    """Wait until no process holds ``shared_lock``, and hold the lock exclusively during a block that removes packs.

    Args:
        root: Of the store.

    Raises:
        StoreError: The file system has no locks.
    """
    with _locked(root / "drop.lock", needed=True):
        yield


@contextmanager
def gc_lock(root: Path, *, wait: bool) -> Iterator[bool]:
    """Prevent other processes from recoding packs and collecting garbage during a block.

    Args:
        root: Of the store.
        wait: Whether to wait for the process that holds the lock.

    Yields:
        Whether the lock was acquired; always true with ``wait``.

    Raises:
        StoreError: The file system has no locks.
    """
    with _locked(root / "gc.lock", wait=wait, needed=True) as acquired:
        yield acquired


@contextmanager
def file_lock(path: Path) -> Iterator[None]:
    """Hold a lock on a file exclusively during a block; run without it if the file system has no locks."""
    with _locked(path):
        yield


def _opened(path: Path) -> int:
    try:
        return open_file(path, os.O_RDWR | os.O_CREAT)
    except FileNotFoundError:
        path.parent.mkdir(parents=True, exist_ok=True)
        return open_file(path, os.O_RDWR | os.O_CREAT)


@contextmanager
def _locked(path: Path, *, shared: bool = False, wait: bool = True, needed: bool = False) -> Iterator[bool]:
    try:
        descriptor = _opened(path)
    except OSError:
        yield True
        return
    try:
        try:
            lock(descriptor, shared=shared, wait=wait)
            acquired = True
        except BlockingIOError:
            acquired = False
        except OSError as error:  # a file system without locks
            if needed:
                raise StoreError(f"cannot lock {path}: {error.strerror}", hint=NO_LOCKS) from error
            acquired = True
        yield acquired
    finally:
        os.close(descriptor)
