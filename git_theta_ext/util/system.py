"""Calls for files that an operating system may lack, each with a fallback; ``util.processes`` has those for processes.

Linux has all of them. macOS has no pipes of another size, no leases and other reflinks, and refuses reads and writes of
2 GiB and more. Windows has none. ``scripts/check`` finds such calls in other modules. Those that read ``/proc`` or call
the C library of Linux have fallbacks of their own: ``checkpoint.replace``, ``checkpoint.unfinished``,
``checkpoint.writers``, ``git.process_table``.
"""

from __future__ import annotations

import errno
import os
import stat
from contextlib import contextmanager, suppress
from threading import Lock
from typing import TYPE_CHECKING, Any

try:
    import fcntl as _found
except ImportError:  # Windows
    fcntl: ModuleType | None = None
else:
    fcntl = _found

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path
    from types import ModuleType

    from _typeshed import FileDescriptorLike
    from typing_extensions import Buffer

NOFOLLOW: int = getattr(os, "O_NOFOLLOW", 0)
"""The flag with which a symbolic link is not opened; 0 if the system has none."""
NONBLOCK: int = getattr(os, "O_NONBLOCK", 0)
"""The flag with which opening a pipe does not wait for its other end; 0 if the system has none."""

_BINARY: int = getattr(os, "O_BINARY", 0)  # Windows changes the ends of lines without it
_FICLONE = 0x40049409  # linux/fs.h
_F_SETPIPE_SZ = 1031  # fcntl.F_SETPIPE_SZ, which Python defines only if the C library that it was built with does
_MOST = 0x7FFFF000
"""Bytes that Linux reads and writes at most in one call (read(2)); macOS refuses more than this and a page."""

_position = Lock()


def free_bytes(path: str | os.PathLike[str]) -> int:
    """Return the free space of the file system that has a path, in bytes.

    Raises:
        OSError: There is no such path.
    """
    found: Any = getattr(os, "statvfs", None)
    if found is None:  # Windows
        from shutil import disk_usage  # which imports compressors

        return disk_usage(path).free
    status = found(path)
    return int(status.f_bavail * status.f_frsize)


def open_file(path: str | os.PathLike[str], flags: int, mode: int = 0o666) -> int:
    """Open a file whose bytes are read and written as they are, and return its descriptor.

    Child processes do not inherit it (PEP 446).

    Args:
        path: The file.
        flags: As for ``os.open``.
        mode: Of a file that is created, less the umask.

    Raises:
        OSError: The file cannot be opened.
    """
    return os.open(path, flags | _BINARY, mode)


def open_directory(path: Path, *, follow: bool = True) -> int:
    """Open a directory to lock it, and return its descriptor; on Windows, which opens none, that of the null device.

    Args:
        path: The directory.
        follow: Whether the path may be a symbolic link.

    Raises:
        OSError: There is no directory, or it cannot be opened.
    """
    if hasattr(os, "O_DIRECTORY"):
        flag: int = os.O_DIRECTORY
        return os.open(path, os.O_RDONLY | flag | (0 if follow else NOFOLLOW))
    if not stat.S_ISDIR((path.stat() if follow else path.lstat()).st_mode):
        raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR), str(path))
    return os.open(os.devnull, os.O_RDONLY)


def sync_directory(path: Path) -> None:
    """Make the names in a directory durable. Windows has no call for that.

    Raises:
        OSError: The directory cannot be opened, or the disk reports an error.
    """
    if hasattr(os, "O_DIRECTORY"):
        descriptor = open_directory(path)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def lock(file: FileDescriptorLike, *, shared: bool = False, wait: bool = True) -> None:
    """Lock a file or a directory until it is closed, against other descriptors of it (flock(2)).

    Args:
        file: The file, or its descriptor.
        shared: Let others have a shared lock at the same time.
        wait: Wait for those that have a lock.

    Raises:
        BlockingIOError: Another descriptor has a lock, and ``wait`` is false.
        OSError: The system or the file system has no such locks.
    """
    if fcntl is None:
        raise OSError(errno.ENOLCK, os.strerror(errno.ENOLCK))
    fcntl.flock(file, (fcntl.LOCK_SH if shared else fcntl.LOCK_EX) | (0 if wait else fcntl.LOCK_NB))


def pread(descriptor: int, count: int, offset: int) -> bytes:
    """Read at an offset of a file; at most ``count`` bytes, and at most 2 GiB.

    Raises:
        OSError: The file cannot be read.
    """
    count = min(count, _MOST)
    if hasattr(os, "pread"):
        data: bytes = os.pread(descriptor, count, offset)
        return data
    with _moved(descriptor, offset):
        return os.read(descriptor, count)


def pwrite(descriptor: int, data: memoryview, offset: int) -> int:
    """Write at an offset of a file, at most 2 GiB, and return how many bytes were written.

    Args:
        descriptor: Of the file.
        data: A view of bytes.
        offset: The position in the file.

    Raises:
        OSError: The file cannot be written.
    """
    data = data[:_MOST]
    if hasattr(os, "pwrite"):
        written: int = os.pwrite(descriptor, data, offset)
        return written
    with _moved(descriptor, offset):
        return os.write(descriptor, data)


@contextmanager
def _moved(descriptor: int, offset: int) -> Iterator[None]:
    """Move the position of a file during a block. Copies of a descriptor share it, so threads take turns."""
    with _position:
        before = os.lseek(descriptor, 0, os.SEEK_CUR)
        os.lseek(descriptor, offset, os.SEEK_SET)
        try:
            yield
        finally:
            os.lseek(descriptor, before, os.SEEK_SET)


def read_into(descriptor: int, buffer: memoryview) -> int:
    """Read bytes into a buffer, and return their number; 0 at the end of the file.

    Raises:
        OSError: The file cannot be read.
    """
    if hasattr(os, "readv"):
        count: int = os.readv(descriptor, [buffer])
        return count
    data = os.read(descriptor, len(buffer))
    buffer[: len(data)] = data
    return len(data)


def write_pieces(descriptor: int, pieces: Sequence[Buffer]) -> int:
    """Write bytes from several buffers, and return how many were written, which may be fewer than there are.

    Raises:
        OSError: The file cannot be written.
    """
    if hasattr(os, "writev"):
        count: int = os.writev(descriptor, pieces)
        return count
    return os.write(descriptor, pieces[0])


def reflink(source: int, target: int) -> None:
    """Let an empty file share the blocks of another one, if the file system can (ioctl_ficlone(2)).

    Args:
        source: Descriptor of the file with the blocks.
        target: Descriptor of the empty file.

    Raises:
        OSError: The system or the file system cannot.
    """
    if fcntl is None:
        raise OSError(errno.ENOTSUP, os.strerror(errno.ENOTSUP))
    fcntl.ioctl(target, _FICLONE, source)


def lease(descriptor: int) -> None:
    """Take a read lease of a file, and release it: Linux grants it only if no process has the file open for writing.

    Args:
        descriptor: Of a file of this user, open for reading only.

    Raises:
        BlockingIOError: A process has the file open for writing.
        OSError: The file is that of another user, or the system or the file system has no leases.
    """
    import signal

    if fcntl is None or not hasattr(fcntl, "F_SETLEASE"):
        raise OSError(errno.ENOTSUP, os.strerror(errno.ENOTSUP))
    # If a process opens the file for writing in between, a signal is sent, whose default action ends this process.
    fcntl.fcntl(descriptor, fcntl.F_SETSIG, signal.Signals["SIGURG"])
    fcntl.fcntl(descriptor, fcntl.F_SETLEASE, fcntl.F_RDLCK)
    fcntl.fcntl(descriptor, fcntl.F_SETLEASE, fcntl.F_UNLCK)


def is_own(status: os.stat_result) -> bool:
    """Return whether a file belongs to this user; true if the system has no numbers of users."""
    if hasattr(os, "geteuid"):
        own: bool = status.st_uid == os.geteuid()
        return own
    return True


def set_mode(descriptor: int, mode: int) -> None:
    """Set the permissions of an open file, if the system can.

    Raises:
        OSError: It is the file of another user.
    """
    if hasattr(os, "fchmod"):
        os.fchmod(descriptor, mode)


def set_owner(descriptor: int, user: int, group: int) -> None:
    """Set the owner and the group of an open file, if the system has them; -1 keeps one.

    Raises:
        OSError: This user may not do that.
    """
    if hasattr(os, "fchown"):
        os.fchown(descriptor, user, group)


def copy_attributes(path: Path, descriptor: int) -> None:
    """Copy the extended attributes of a file to an open one, including access control lists, as far as permitted."""
    calls: Any = os
    if hasattr(calls, "listxattr"):
        with suppress(OSError):
            for name in calls.listxattr(path, follow_symlinks=False):
                with suppress(OSError):
                    calls.setxattr(descriptor, name, calls.getxattr(path, name, follow_symlinks=False))


def widen_pipe(file: FileDescriptorLike, nbytes: int) -> None:
    """Let a pipe hold more bytes, if the system can and lets this user; a file that is no pipe is left as it is."""
    if fcntl is not None:
        with suppress(OSError):
            fcntl.fcntl(file, _F_SETPIPE_SZ, nbytes)
