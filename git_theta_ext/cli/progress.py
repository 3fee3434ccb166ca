"""A progress bar on stderr for work that takes longer than a second."""

from __future__ import annotations

import sys
import threading
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING

from git_theta_ext.util.text import printable

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from rich.progress import Progress, TaskID

_DELAY = 1.0
"""Seconds before a bar is shown."""


@contextmanager
def progress(label: str, total: int, *, wanted: bool = True, counted: bool = False) -> Iterator[Callable[[int], None]]:
    """Show a progress bar if stderr is a terminal and the work takes longer than a second.

    Args:
        label: Name of the work.
        total: Its size in bytes; 0 if unknown.
        wanted: Whether to show a bar at all.
        counted: Whether the size is a number of items instead of bytes.

    Yields:
        A function to call with the number of bytes done since the last call. Any thread can call it.
    """
    if not wanted or not sys.stderr.isatty():
        yield lambda _: None
        return
    bar = _Bar(printable(label), total, counted=counted)
    try:
        yield bar.advance
    finally:
        bar.stop()


class _Bar:
    """Starts the real bar, and imports rich, only after the delay."""

    def __init__(self, label: str, total: int, *, counted: bool) -> None:
        self._label = label
        self._total = total
        self._counted = counted
        self._done = 0
        self._lock = threading.Lock()
        self._start = time.monotonic()
        self._shown: tuple[Progress, TaskID] | None = None

    def advance(self, count: int) -> None:
        with self._lock:
            self._done += count
            if self._shown is None and time.monotonic() - self._start > _DELAY:
                self._shown = self._show()
            if self._shown is not None:
                bar, task = self._shown
                bar.update(task, completed=self._done)

    def stop(self) -> None:
        with self._lock:
            if self._shown is not None:
                self._shown[0].stop()

    def _show(self) -> tuple[Progress, TaskID]:
        from rich.console import Console
        from rich.progress import (
            BarColumn,
            DownloadColumn,
            MofNCompleteColumn,
            Progress,
            TextColumn,
            TimeRemainingColumn,
        )

        done = MofNCompleteColumn() if self._counted else DownloadColumn()
        columns = (TextColumn("{task.description}", markup=False), BarColumn(), done, TimeRemainingColumn())
        bar = Progress(*columns, console=Console(stderr=True), transient=True)
        task = bar.add_task(self._label, total=self._total or None, completed=self._done)
        bar.start()
        return bar, task
