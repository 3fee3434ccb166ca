"""Write files whole or not at all, make them durable, and name them by their content."""

from __future__ import annotations

import errno
import hashlib
import os
import re
import secrets
from contextlib import contextmanager
from typing import TYPE_CHECKING

from git_theta_ext.errors import StoreError

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from pathlib import Path

_READ = 1 << 18
"""Bytes that are hashed in one go: they stay in the CPU's cache from one end to the other."""

_FULL = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})
_LONGEST_STEM = 64
"""Characters of a file's name that the name of its temporary file repeats: names have a limit of 255 bytes."""


@contextmanager
def reporting_os_errors(path: Path) -> Iterator[None]:
    """Turn an ``OSError`` in a block into a ``StoreError`` with a hint.

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


def temporary_beside(path: Path) -> Path:
    """Return an unused name for a hidden temporary file in the same directory as a path."""
    return path.with_name(f"{_prefix(path)}{secrets.token_hex(8)}.theta")


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
def replacing(path: Path) -> Iterator[Path]:
    """Replace a file atomically: readers see all of the old content or all of the new.

    The temporary file is renamed to ``path`` if the block succeeds, and removed if the block or the renaming fails.

    Args:
        path: The file to replace. It need not exist, but its directory must.

    Yields:
        The name of the temporary file, which the block creates and writes.

    Raises:
        OSError: The file cannot be renamed.
    """
    temporary = temporary_beside(path)
    try:
        yield temporary
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def replace_content(path: Path, content: bytes) -> None:
    """Replace the content of a file atomically, and create its directory if there is none.

    Raises:
        OSError: The file cannot be written. It is unchanged, and no temporary file is left.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with replacing(path) as temporary:
        temporary.write_bytes(content)


def sha256_of(path: Path) -> str:
    """Return the SHA-256 of a file's content as hexadecimal digits."""
    digest = hashlib.sha256()
    buffer = memoryview(bytearray(_READ))
    with path.open("rb", buffering=0) as file:
        while count := file.readinto(buffer):
            digest.update(buffer[:count])
    return digest.hexdigest()


def sync_file(path: Path) -> None:
    """Make the content of a file durable."""
    _sync(path)


def sync_directories(directories: Iterable[Path]) -> None:
    """Make the names in some directories durable."""
    for directory in directories:
        _sync(directory)


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
