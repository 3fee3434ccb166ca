"""The processes above this one, from ``/proc``, or from ``ps`` on systems without it, such as macOS."""

from __future__ import annotations

from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from git_theta_ext.records import dataclass

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

PROC = Path("/proc")
_PS = ("ps", "-A", "-ww", "-o", "pid=,ppid=,args=")
_COLUMNS = 3
_SECONDS = 10


@dataclass(frozen=True)
class Process:
    """A running process.

    Attributes:
        pid: Its id.
        name: The name of its program.
        parent: Id of the process that started it.
        words: The arguments of its program. ``ps`` does not show which spaces are inside an argument.
    """

    pid: int
    name: bytes
    parent: int
    words: tuple[bytes, ...]


def ancestors(pid: int, proc: Path, generations: int) -> Iterator[Process]:
    """Yield a process and its ancestors, until one cannot be read.

    Args:
        pid: Id of the process.
        proc: The mount point of the proc file system.
        generations: Maximum number of processes.
    """
    find: Callable[[int], Process | None] = partial(_from_proc, proc)
    if not (proc / "self").exists() and not (proc / str(pid)).exists():
        find = _from_ps().get
    for _ in range(generations):
        process = find(pid)
        if process is None:
            return
        yield process
        pid = process.parent


def children(pid: int, proc: Path) -> Iterator[Process]:
    """Yield the processes that a process has started; none on systems that do not list them.

    Args:
        pid: Id of the process.
        proc: The mount point of the proc file system.
    """
    for listed in (proc / str(pid)).glob("task/*/children"):  # of each of its threads
        with suppress(OSError):
            for child in listed.read_bytes().split():
                process = _from_proc(proc, int(child))
                if process is not None:
                    yield process


def _from_proc(proc: Path, pid: int) -> Process | None:
    folder = proc / str(pid)
    try:
        name, parent = _name_and_parent((folder / "stat").read_bytes())
    except (OSError, ValueError):
        return None
    try:
        words = (folder / "cmdline").read_bytes().split(b"\0")[1:-1]
    except OSError:
        words = []
    return Process(pid, name, parent, tuple(words))


def _name_and_parent(line: bytes) -> tuple[bytes, int]:
    # The line is "pid (name) state parent ..."; the name may contain parentheses and spaces.
    head, _, tail = line.rpartition(b")")
    fields = tail.split()
    if len(fields) < 2:  # noqa: PLR2004 - state and parent
        raise ValueError("not a line of /proc/PID/stat")
    return head.partition(b"(")[2], int(fields[1])


def _from_ps() -> dict[int, Process]:
    """Return all processes; none if there is no ``ps`` with the options of POSIX."""
    import subprocess

    try:
        listed = subprocess.run(_PS, capture_output=True, check=True, timeout=_SECONDS, stdin=subprocess.DEVNULL).stdout
    except (OSError, subprocess.SubprocessError):
        return {}
    rows = (line.split(maxsplit=_COLUMNS - 1) for line in listed.splitlines())
    processes = (_from_row(row) for row in rows if len(row) == _COLUMNS and row[0].isdigit() and row[1].isdigit())
    return {process.pid: process for process in processes}


def _from_row(row: list[bytes]) -> Process:
    program, *words = row[2].split()
    if words and Path(program.decode(errors="replace")).name.lower().startswith("python"):
        program, *words = words  # /proc has the name of a script, not that of its interpreter
    return Process(int(row[0]), program.lstrip(b"-").rpartition(b"/")[2], int(row[1]), tuple(words))
