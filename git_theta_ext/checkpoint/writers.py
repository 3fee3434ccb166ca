"""Detect whether another program has a file open for writing."""

from __future__ import annotations

import os
import stat
from contextlib import suppress
from pathlib import Path

from git_theta_ext.util.system import lease

_PROC = Path("/proc")
_GENERATIONS = 2
_STDERR = 2
_ACCESS_MODES = os.O_RDONLY | os.O_WRONLY | os.O_RDWR


def being_written(descriptor: int) -> bool:
    """Return whether a process has a file open or mapped for writing; False if the system cannot tell.

    Linux grants the owner of a file a read lease (fcntl(2)) only if no process has it open for writing.

    Args:
        descriptor: Descriptor of the file, open for reading only.
    """
    try:
        lease(descriptor)
    except BlockingIOError:
        return not _is_inherited(os.fstat(descriptor))
    except OSError:
        pass
    return False


def close_inherited() -> None:
    """Close inherited files that are open for writing; see ``_is_inherited``."""
    own = _PROC / "self"
    with suppress(OSError):
        for entry in list((own / "fd").iterdir()):
            with suppress(OSError):
                descriptor = int(entry.name)
                if descriptor > _STDERR and _is_writing(own, entry.name) and stat.S_ISREG(os.fstat(descriptor).st_mode):
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
            with suppress(OSError):
                if os.path.samestat(entry.stat(), status) and _is_writing(process, entry.name):
                    return True
    return False


def _is_writing(process: Path, descriptor: str) -> bool:
    """Return whether a file of a process in ``/proc`` is open for writing (proc(5))."""
    with suppress(OSError, IndexError, ValueError):
        flags = (process / "fdinfo" / descriptor).read_bytes().partition(b"flags:")[2].split()[0]
        return int(flags, 8) & _ACCESS_MODES != os.O_RDONLY
    return False
