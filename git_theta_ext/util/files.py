"""Write files whole or not at all, make them durable, and name them by their content."""

from __future__ import annotations

import errno
import hashlib
import os
import re
import stat
from contextlib import ExitStack, contextmanager, suppress
from typing import TYPE_CHECKING

from git_theta_ext.errors import StoreError
from git_theta_ext.util.system import NOFOLLOW, NONBLOCK, lock, open_file, pwrite, set_mode, sync_directory

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from pathlib import Path

_READ = 1 << 18
"""Bytes that are hashed in one go: they stay in the CPU's cache from one end to the other."""

_FULL = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})
_LONGEST_STEM = 64
"""Characters of a file's name that the name of its temporary file repeats: names have a limit of 255 bytes."""
_TEMPORARY = re.compile("[.].+[.][0-9a-f]{16}[.]theta-new", re.DOTALL)


@contextmanager
def reporting_os_errors(path: Path) -> Iterator[None]:
    """Turn an ``OSError`` in a block that writes into a ``StoreError`` with a hint.

    Args:
        path: Named in the message if the error names no file.
    """
    try:
        yield
    except OSError as error:
        if error.errno in _FULL:
            hint = "free some space and run the command again; nothing was lost"
        else:
            hint = "check the directory's permissions"
        raise StoreError(f"cannot write {error.filename or path}: {error.strerror or error}", hint=hint) from error


@contextmanager
def reporting_read_errors(path: Path) -> Iterator[None]:
    """Turn an ``OSError`` in a block that reads into a ``StoreError`` with a hint.

    Args:
        path: Named in the message if the error names no file.
    """
    try:
        yield
    except OSError as error:
        hint = "check the disk" if error.errno == errno.EIO else "check the file's permissions"
        raise StoreError(f"cannot read {error.filename or path}: {error.strerror or error}", hint=hint) from error


def temporary_beside(path: Path) -> Path:
    """Return an unused name for a hidden temporary file in the same directory as a path."""
    return path.with_name(f"{_prefix(path)}{os.urandom(8).hex()}.theta")


def temporaries_beside(path: Path) -> list[Path]:
    """Return the files whose names ``temporary_beside`` may have returned for a path.

    Raises:
        OSError: The directory cannot be read.
    """
    name = re.compile(re.escape(_prefix(path)) + "[0-9a-f]{16}[.]theta")
    return [entry for entry in path.parent.iterdir() if name.fullmatch(entry.name)]


def _prefix(path: Path) -> str:
    return f".{path.name[:_LONGEST_STEM]}."


@contextmanager
def replacing(path: Path, temporary: Path | None = None) -> Iterator[Path]:
    """Replace a file atomically: readers see all of the old content or all of the new.

    The temporary file is renamed to ``path`` if the block succeeds, and removed if the block or the renaming fails. If
    the process is killed, the next replacement in the directory removes it.

    Args:
        path: The file to replace. It need not exist, but its directory must.
        temporary: An unused name on the same file system, in a directory from which old files are removed. By default
            the temporary file is beside ``path``, and has the mode of the old file.

    Yields:
        The name of the temporary file, which the block writes.

    Raises:
        OSError: The file cannot be written or renamed. The error names ``path``.
    """
    name = temporary
    try:
        with ExitStack() as stack:
            if name is None:
                name = stack.enter_context(_reserved(path))
            try:
                yield name
                name.replace(path)
            finally:
                name.unlink(missing_ok=True)
    except OSError as error:
        if name is not None and error.filename == os.fspath(name):
            error.filename = os.fspath(path)
        raise


def replace_content(path: Path, content: bytes, temporary: Path | None = None) -> None:
    """Replace the content of a file atomically, and create its directory if there is none; see ``replacing``.

    Raises:
        OSError: The file cannot be written. It is unchanged, and no temporary file is left.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with replacing(path, temporary) as name:
        name.write_bytes(content)


@contextmanager
def writing_output(path: Path) -> Iterator[Path]:
    """Write a file that the user named: atomically, unless it is a pipe or a device.

    Args:
        path: The file. Links are followed.

    Yields:
        The name of the file that the block writes.

    Raises:
        OSError: The file cannot be written.
    """
    if path.exists() and not path.is_file():
        yield path
    else:
        with replacing(path.resolve()) as temporary:
            yield temporary


@contextmanager
def _reserved(path: Path) -> Iterator[Path]:
    """Create a hidden file beside a path. It is locked while it is in use, and a killed process holds no locks."""
    _clear_leftovers(path.parent)
    descriptor, name = _created(path)
    try:
        yield name
    finally:
        os.close(descriptor)


def _created(path: Path) -> tuple[int, Path]:
    while True:
        name = path.with_name(f".{path.name[:_LONGEST_STEM]}.{os.urandom(8).hex()}.theta-new")
        try:
            descriptor = open_file(name, os.O_RDWR | os.O_CREAT | os.O_EXCL)
        except OSError as error:
            error.filename = os.fspath(path)
            raise
        if _locked(descriptor) and name.exists():
            with suppress(OSError):  # there is no old file
                set_mode(descriptor, stat.S_IMODE(path.stat().st_mode))
            return descriptor, name
        os.close(descriptor)  # another process removed it before it was locked


def _clear_leftovers(directory: Path) -> None:
    """Remove the temporary files that killed processes left in a directory."""
    with suppress(OSError), os.scandir(directory) as entries:
        for entry in entries:
            if not _TEMPORARY.fullmatch(entry.name):
                continue
            with suppress(OSError):  # such as one of another user
                descriptor = open_file(entry.path, os.O_RDWR | NOFOLLOW | NONBLOCK)
                try:
                    if _locked(descriptor, needed=True):
                        os.unlink(entry.path)  # noqa: PTH108 - no path to be handled
                finally:
                    os.close(descriptor)


def _locked(descriptor: int, *, needed: bool = False) -> bool:
    """Lock a file, and return whether no other process has locked it.

    Args:
        descriptor: Of the file.
        needed: What to return on a file system without locks is the opposite of this.
    """
    try:
        lock(descriptor, wait=False)
    except BlockingIOError:
        return False
    except OSError:
        return not needed
    return True


def sha256_of(path: Path) -> str:
    """Return the SHA-256 of a file's content as hexadecimal digits."""
    digest = hashlib.sha256()
    buffer = memoryview(bytearray(_READ))
    with path.open("rb", buffering=0) as file:
        while count := file.readinto(buffer):
            digest.update(buffer[:count])
    return digest.hexdigest()


def total_bytes(paths: Iterable[Path]) -> int:
    """Return the size of some files together, without those that another process has just removed."""
    total = 0
    for path in paths:
        with suppress(FileNotFoundError):
            total += path.stat().st_size
    return total


def sync_file(path: Path) -> None:
    """Make the content of a file durable."""
    descriptor = open_file(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def sync_directories(directories: Iterable[Path]) -> None:
    """Make the names in some directories durable."""
    for directory in directories:
        sync_directory(directory)


def write_at(descriptor: int, data: memoryview, offset: int) -> None:
    """Write all bytes at an offset of a file."""
    while data.nbytes:
        written = pwrite(descriptor, data, offset)
        data, offset = data[written:], offset + written
