"""Locks between the processes of a repository: files below the store, held by ``flock``, gone with their process."""

from __future__ import annotations

import fcntl
import os
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@contextmanager
def kept(root: Path) -> Iterator[None]:
    """Make sure for a block that no pack is dropped.

    Any number of processes may do so at a time. Where the store cannot be written nobody drops packs either.
    """
    with _locked(root / "drop.lock", fcntl.LOCK_SH):
        yield


@contextmanager
def dropping(root: Path) -> Iterator[None]:
    """Wait until nobody needs that packs stay, and keep others from starting to, for a block."""
    with _locked(root / "drop.lock", fcntl.LOCK_EX):
        yield


@contextmanager
def alone(root: Path, *, wait: bool) -> Iterator[bool]:
    """Keep others from recoding and collecting garbage for a block.

    Args:
        root: Of the store.
        wait: For somebody who is at it.

    Yields:
        Whether nobody else is at it.
    """
    with _locked(root / "gc.lock", fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB)) as got:
        yield got


@contextmanager
def file_lock(path: Path) -> Iterator[None]:
    """Wait until nobody else has a file locked, and have it locked for a block."""
    with _locked(path, fcntl.LOCK_EX):
        yield


@contextmanager
def _locked(path: Path, how: int) -> Iterator[bool]:
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
        except OSError:  # a file system without locks
            got = True
        yield got
    finally:
        os.close(descriptor)
