"""Calls for processes that an operating system may lack, each with a fallback; ``util.system`` has those for files."""

from __future__ import annotations

import os
import sys
from contextlib import suppress
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from signal import Signals
    from types import ModuleType

_LOW_PRIORITY = 10
_RSS_UNIT = 1 if sys.platform == "darwin" else 1024
"""Bytes in a unit of ``ru_maxrss`` (getrusage(2))."""


def lower_priority() -> None:
    """Lower the priority of this process, if the system can, so that the commands of the user run first."""
    if hasattr(os, "nice"):
        with suppress(OSError):
            os.nice(_LOW_PRIORITY)


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
            os.killpg(process, signal.Signals["SIGKILL"])
        else:
            os.kill(process, signal.SIGTERM)  # which ends a process of Windows at once


def peak_of_children() -> int:
    """Return the most memory in bytes that one of the ended child processes took; 0 if that is not known."""
    try:
        import resource
    except ImportError:
        return 0
    module: ModuleType = resource
    return int(module.getrusage(module.RUSAGE_CHILDREN).ru_maxrss) * _RSS_UNIT
