"""Detect whether another program has a file open for writing."""

from __future__ import annotations

import errno
import os
import signal
import stat
from contextlib import suppress
from pathlib import Path

_PROC = Path("/proc")
_GENERATIONS = 2
_STDERR = 2
_HELD = frozenset({errno.EAGAIN, errno.EWOULDBLOCK})


def being_written(descriptor: int) -> bool:
    """Return whether a process has a file open or mapped for writing; False if the system cannot tell.

    Linux grants the owner of a file a read lease (fcntl(2)) only if no process has it open for writing.

    Args:
        descriptor: Descriptor of the file, open for reading only.
    """
    try:
        import fcntl
    except ImportError:  # Windows
        return False
    if not hasattr(fcntl, "F_SETLEASE"):
        return False
    try:
        # If a process opens the file for writing in between, a signal is sent, whose default action ends this process.
        fcntl.fcntl(descriptor, fcntl.F_SETSIG, signal.SIGURG)
        fcntl.fcntl(descriptor, fcntl.F_SETLEASE, fcntl.F_RDLCK)
        fcntl.fcntl(descriptor, fcntl.F_SETLEASE, fcntl.F_UNLCK)
    except OSError as error:
        return error.errno in _HELD and not _is_inherited(os.fstat(descriptor))
    return False


def close_inherited() -> None:
    """Close inherited files that are open for writing; see ``_is_inherited``."""
    with suppress(OSError, ImportError):
        import fcntl

        for entry in list(Path("/proc/self/fd").iterdir()):
            with suppress(OSError):
                descriptor = int(entry.name)
                mode = fcntl.fcntl(descriptor, fcntl.F_GETFL) & os.O_ACCMODE
                if descriptor > _STDERR and mode != os.O_RDONLY and stat.S_ISREG(os.fstat(descriptor).st_mode):
                    os.close(descriptor)


def _is_inherited(status: os.stat_result, proc: Path = _PROC) -> bool:
    """Return whether only parent processes have a file open, which do not write to it.

    ``git apply`` and ``git am`` start the filter while they have the checkpoint open, and the shell between git and the
    filter inherits that descriptor.
    """
    line = [os.getpid()]
    for _ in range(_GENERATIONS):
        with suppress(OSError, IndexError, ValueError):
            line.append(int((proc / str(line[-1]) / "stat").read_bytes().rpartition(b")")[2].split()[1]))
    holders = {pid for pid in _processes(proc) if _writes(proc / str(pid), status)}
    return bool(holders) and holders <= set(line[1:])


def _processes(proc: Path) -> list[int]:
    try:
        return [int(entry.name) for entry in proc.iterdir() if entry.name.isdigit()]
    except OSError:
        return []


def _writes(process: Path, status: os.stat_result) -> bool:
    with suppress(OSError):
        for entry in (process / "fd").iterdir():
            with suppress(OSError, IndexError, ValueError):
                if os.path.samestat(entry.stat(), status):
                    flags = (process / "fdinfo" / entry.name).read_bytes().partition(b"flags:")[2].split()[0]
                    if int(flags, 8) & os.O_ACCMODE != os.O_RDONLY:
                        return True
    return False
