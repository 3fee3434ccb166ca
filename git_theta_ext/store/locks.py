"""Locks between the processes of a repository: files below the store, held by ``flock``, gone with their process."""

from __future__ import annotations

import fcntl
import os
from contextlib import contextmanager
from typing import TYPE_CHECKING

from git_theta_ext.errors import StoreError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

NO_LOCKS = "packs are dropped and recoded only on file systems that have locks; over NFS these need lockd on the server"
"""A hint for file systems without locks; what only reads and adds goes on without them."""


@contextmanager
def kept(root: Path) -> Iterator[None]:
    """Make sure for a block that no pack is dropped.

    Any number of processes may do so at a time. Where the store cannot be written nobody drops packs either.
    """
    with _locked(root / "drop.lock", fcntl.LOCK_SH):
        yield


@contextmanager
def dropping(root: Path) -> Iterator[None]:
    """Wait until nobody needs that packs stay, and keep others from starting to, for a block.

    Raises:
        StoreError: The file system has no locks, so that nobody could keep packs.
    """
    with _locked(root / "drop.lock", fcntl.LOCK_EX, needed=True):
        yield


@contextmanager
def alone(root: Path, *, wait: bool) -> Iterator[bool]:
    """Keep others from recoding and collecting garbage for a block.

    Args:
        root: Of the store.
        wait: For somebody who is at it.

    Yields:
        Whether nobody else is at it.

    Raises:
        StoreError: The file system has no locks.
    """
    with _locked(root / "gc.lock", fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB), needed=True) as got:
        yield got


@contextmanager
def file_lock(path: Path) -> Iterator[None]:
    """Wait until nobody else has a file locked, and have it locked for a block; do without if there are no locks."""
    with _locked(path, fcntl.LOCK_EX):
        yield


@contextmanager
def _locked(path: Path, how: int, *, needed: bool = False) -> Iterator[bool]:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)
    except OSError:
        yield True
        return
    try:
        try:
            fcntl.flock(descriptor, how)
            got = True
        except BlockingIOError:
            got = False
        except OSError as error:  # a file system without locks
            if needed:
                raise StoreError(f"cannot lock {path}: {error.strerror}", hint=NO_LOCKS) from error
            got = True
        yield got
    finally:
        os.close(descriptor)
