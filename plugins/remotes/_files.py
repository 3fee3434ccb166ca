"""Copy immutable files atomically: as a reflink, as a hard link, or byte by byte."""

from __future__ import annotations

import os
import time
from contextlib import suppress
from secrets import token_hex
from typing import TYPE_CHECKING

from git_theta_ext.interfaces import is_own, open_file, pread, reflink, sync_directory

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

_PIECE = 1 << 24
READ_BITS = 0o444
STALE_SECONDS = 24 * 3600
# No key contains a tilde, so an incomplete object is never listed or requested.
TEMPORARY = "tmp~"


def make_folder(path: Path) -> None:
    """Make a directory with the permissions of its parent, which must exist.

    It never has other permissions: somebody else would give them to the directories that they make in it.
    """
    if path.is_dir():
        return
    temporary = path.with_name(TEMPORARY + token_hex(8))
    temporary.mkdir()
    try:
        temporary.chmod(path.parent.stat().st_mode & 0o7777)
        temporary.rename(path)  # replaces the directory that somebody else just made, while it is empty
    except OSError:
        temporary.rmdir()
        if not path.is_dir():
            raise
    sync_directory(path.parent)


def remove_stale(folder: Path) -> None:
    """Remove what uploads that were killed more than a day ago left in a directory."""
    for path in folder.glob(f"{TEMPORARY}*"):
        with suppress(FileNotFoundError):
            if time.time() - path.stat().st_mtime > STALE_SECONDS:
                if path.is_dir():
                    path.rmdir()
                else:
                    path.unlink()


def add_file(source: Path, target: Path, report: Callable[[int], None]) -> bool:
    """Add an immutable file to a directory unless the name exists there; durable on return.

    Users who can read the directory can read the file.

    Args:
        source: The file.
        target: Its path in the directory.
        report: Called with the number of bytes that are copied.

    Returns:
        Whether the file was added.
    """
    mode = target.parent.stat().st_mode & READ_BITS
    temporary = target.with_name(TEMPORARY + token_hex(8))
    try:
        with source.open("rb") as file:
            linked = _reflink(file.fileno(), temporary)
            if not linked and os.fstat(file.fileno()).st_mode & READ_BITS == mode:
                linked = hard_link(source, temporary)
            if not linked:
                append_rest(file.fileno(), temporary, report)
        if temporary.stat().st_nlink == 1:
            temporary.chmod(mode)
        added = _name(temporary, target)
    finally:
        temporary.unlink(missing_ok=True)
    sync_directory(target.parent)
    return added


def bring_file(source: Path, fd: int, path: Path, report: Callable[[int], None]) -> None:
    """Copy an immutable file to a new path, continuing after the bytes that are there.

    Args:
        source: Path of the file.
        fd: File descriptor of the same file.
        path: The new path, which may have the first bytes already.
        report: Called with the number of bytes that are copied.
    """
    begun = own_size(path, os.fstat(fd).st_size)
    if begun:
        append_rest(fd, path, report)
        return
    temporary = path.with_name(TEMPORARY + token_hex(8))
    try:
        if not _reflink(fd, temporary) and not hard_link(source, temporary):
            append_rest(fd, path, report)
            return
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def own_size(path: Path, most: int) -> int:
    """Return the number of bytes of a file that can be kept; a file that is shared or too long is removed."""
    try:
        status = path.stat()
    except FileNotFoundError:
        return 0
    if status.st_nlink == 1 and status.st_size <= most:
        return status.st_size
    path.unlink()
    return 0


def append_rest(source: int, path: Path, report: Callable[[int], None]) -> None:
    """Append the bytes that ``path`` lacks; durable on return."""
    target = open_file(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    try:
        position = os.fstat(target).st_size
        while piece := pread(source, _PIECE, position):
            write_all(target, piece)
            position += len(piece)
            report(position)
        os.fsync(target)
    finally:
        os.close(target)


def write_all(fd: int, data: bytes | memoryview) -> None:
    """Write all bytes; a single call may write fewer."""
    view = memoryview(data)
    while view:
        view = view[os.write(fd, view) :]


def hard_link(source: Path, path: Path) -> bool:
    """Create a hard link to a file of the current user, if the file system supports it.

    The file of another user is not linked, because its owner could change it.
    """
    try:
        if not is_own(source.lstat()):
            return False
        os.link(source, path, follow_symlinks=False)
    except (OSError, NotImplementedError):  # Windows always follows them
        return False
    return True


def _reflink(source: int, path: Path) -> bool:
    target = open_file(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL)
    try:
        reflink(source, target)
        os.fsync(target)
    except OSError:
        path.unlink()
        return False
    finally:
        os.close(target)
    return True


def _name(temporary: Path, target: Path) -> bool:
    try:
        os.link(temporary, target)
    except FileExistsError:
        return False
    except OSError:
        # The file system has no hard links (FAT, some network file systems). A writer between the check and the
        # renaming writes the same bytes, because keys contain the hash of their object.
        if target.exists():
            return False
        temporary.rename(target)
    return True
