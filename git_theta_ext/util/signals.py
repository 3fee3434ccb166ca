"""Let signals that end a process unwind it first."""

from __future__ import annotations

import signal
import sys
import threading
from contextlib import contextmanager
from typing import TYPE_CHECKING

from git_theta_ext.util.processes import ending_signals

if TYPE_CHECKING:
    from collections.abc import Iterator


@contextmanager
def unwinding_signals() -> Iterator[None]:
    """Let SIGTERM and SIGHUP exit as an interrupt does, so that blocks above clean up, with the exit code of a shell.

    A signal that is ignored stays so: ``nohup`` lets commands go on without their terminal. Other threads than the main
    one cannot receive signals; there, nothing changes.
    """

    def stop(number: int, _: object) -> None:
        sys.exit(128 + number)

    if threading.current_thread() is not threading.main_thread():
        yield
        return
    heeded = [number for number in ending_signals() if signal.getsignal(number) != signal.SIG_IGN]
    before = {number: signal.signal(number, stop) for number in heeded}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
