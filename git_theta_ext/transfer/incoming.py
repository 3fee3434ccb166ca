"""Download packs to ``incoming/<pack>.part`` in the store, and resume interrupted downloads."""

from __future__ import annotations

import os
import secrets
import time
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING

from git_theta_ext.errors import CorruptError, MissingError, RemoteError
from git_theta_ext.model.remote_keys import pack_key
from git_theta_ext.store.locks import NO_LOCKS
from git_theta_ext.transfer.retry import retried
from git_theta_ext.util import system
from git_theta_ext.util.files import reporting_os_errors
from git_theta_ext.util.system import open_file

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator
    from pathlib import Path

    from git_theta_ext.errors import ThetaError
    from git_theta_ext.store.store import Store
    from git_theta_ext.transfer.remote_index import OpenedRemote

_ABANDONED_SECONDS = 14 * 24 * 3600
_TRIES = 2


def bring_pack(
    store: Store, name: str, nbytes: int, remotes: Iterable[OpenedRemote]
) -> tuple[OpenedRemote | None, list[ThetaError]]:
    """Download a pack from the first remote that provides it intact, unless another process has just done so.

    Args:
        store: The store that the pack is added to.
        name: Name of the pack.
        nbytes: Size of the pack according to its header. No more bytes are accepted.
        remotes: The remotes that have the pack.

    Returns:
        The remote that provided it, and the errors of others. If it is None, another process has brought the pack, or
        all remotes failed.

    Raises:
        StoreError: The store cannot be written.
    """
    failures: list[ThetaError] = []
    with reporting_os_errors(store.root), locked_part(store.root / "incoming", name, store.warn) as part:
        for remote in remotes:
            if store.has_intact(name):
                break
            try:
                _bring(store, name, nbytes, remote, part)
            except (CorruptError, MissingError, RemoteError) as error:
                failures.append(error)
            else:
                return remote, failures
    return None, failures


def forget_abandoned(root: Path) -> None:
    """Remove partial downloads that were not resumed for two weeks."""
    with suppress(FileNotFoundError):
        for path in (root / "incoming").iterdir():
            with suppress(OSError):
                if time.time() - path.stat().st_mtime > _ABANDONED_SECONDS:
                    path.unlink()


def _bring(store: Store, name: str, nbytes: int, remote: OpenedRemote, part: Path) -> None:
    for left in reversed(range(_TRIES)):
        if part.exists() and part.stat().st_nlink > 1:
            part.unlink()  # it is a link to the remote's own file, which must not be written to
        try:
            retried(lambda: remote.plugin.fetch(pack_key(name), part, nbytes))
            store.adopt(name, part)
        except CorruptError as error:
            part.unlink(missing_ok=True)
            if not left:
                where = "" if error.message.startswith(remote.url) else f"{remote.url}: "
                raise CorruptError(f"{where}{error.message}", hint="run git theta fsck on the remote") from error
        else:
            # Renaming does nothing if both paths are links to the same file.
            part.unlink(missing_ok=True)
            return


@contextmanager
def locked_part(directory: Path, name: str, warn: Callable[[str], None]) -> Iterator[Path]:
    """Lock a download, so that one thread of one process at a time works on it.

    If the file system has no locks, every thread has its own file, which cannot be resumed.
    """
    directory.mkdir(parents=True, exist_ok=True)
    lock = directory / f"{name}.lock"
    while True:
        fd = open_file(lock, os.O_RDWR | os.O_CREAT)
        try:
            try:
                system.lock(fd)
            except OSError as error:
                warn(f"cannot lock files in {directory}: {error.strerror}; downloading without locks. {NO_LOCKS}")
                with _unlocked_part(directory, name) as part:
                    yield part
                lock.unlink(missing_ok=True)
                return
            if _is_named(fd, lock):
                try:
                    yield directory / f"{name}.part"
                finally:
                    lock.unlink(missing_ok=True)
                return
        finally:
            os.close(fd)


@contextmanager
def _unlocked_part(directory: Path, name: str) -> Iterator[Path]:
    part = directory / f"{name}.{secrets.token_hex(8)}.part"
    try:
        yield part
    finally:
        part.unlink(missing_ok=True)


def _is_named(fd: int, path: Path) -> bool:
    """Return whether an open lock file still has its path; the previous owner of the lock may have removed it."""
    try:
        return os.path.samestat(os.fstat(fd), path.stat())
    except FileNotFoundError:
        return False
