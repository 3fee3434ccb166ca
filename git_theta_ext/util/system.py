"""System calls that not every operating system has, each with a fallback.

Linux has all of them. macOS has no pipes of another size and no CPU affinity, and refuses reads and writes of 2 GiB and
more. Windows has none. Modules with a call of Linux alone that has its own fallback: ``checkpoint.replace``,
``checkpoint.unfinished``, ``checkpoint.writers``, ``git.process_table``.
"""

from __future__ import annotations

import errno
import os
import sys
from contextlib import contextmanager, suppress
from threading import Lock
from typing import TYPE_CHECKING

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None  # type: ignore[assignment]

if TYPE_CHECKING:
    from collections.abc import Iterator
    from signal import Signals

    from _typeshed import FileDescriptorLike

_F_SETPIPE_SZ = 1031  # fcntl.F_SETPIPE_SZ, which Python defines only if the C library that it was built with does
_MOST = 0x7FFFF000
"""Bytes that Linux reads and writes at most in one call (read(2)); macOS refuses more than this and a page."""
_RSS_UNIT = 1 if sys.platform == "darwin" else 1024
"""Bytes in a unit of ``ru_maxrss`` (getrusage(2))."""

_position = Lock()


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
        return os.pread(descriptor, count, offset)
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
        return os.pwrite(descriptor, data, offset)
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


def widen_pipe(file: FileDescriptorLike, nbytes: int) -> None:
    """Let a pipe hold more bytes, if the system can and lets this user; a file that is no pipe is left as it is."""
    if fcntl is not None:
        with suppress(OSError):
            fcntl.fcntl(file, _F_SETPIPE_SZ, nbytes)


def cpu_count() -> int:
    """Return the number of CPUs that this process may run on; of all CPUs if the system does not tell."""
    affinity = getattr(os, "sched_getaffinity", None)
    return len(affinity(0)) if affinity else os.cpu_count() or 1


def ending_signals() -> tuple[Signals, ...]:
    """Return the signals that ask a process to end, other than an interrupt."""
    import signal  # few commands need it

    return tuple(getattr(signal, name) for name in ("SIGTERM", "SIGHUP") if hasattr(signal, name))


def kill_group(process: int) -> None:
    """Kill a process that has a group of its own, with what it has started; it alone if the system has no groups."""
    import signal

    with suppress(OSError):
        if hasattr(os, "killpg"):
            os.killpg(process, signal.SIGKILL)
        else:
            os.kill(process, signal.SIGTERM)  # which ends a process of Windows at once


def peak_of_children() -> int:
    """Return the most memory in bytes that one of the ended child processes took; 0 if that is not known."""
    try:
        import resource
    except ImportError:
        return 0
    return resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss * _RSS_UNIT
