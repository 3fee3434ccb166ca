"""The progress of work that takes longer than a second, on stderr: a bar on a terminal, otherwise a line now and then.

Work can begin within other work, such as recoding within a push. Only what began last is shown, so there is one bar.
"""

from __future__ import annotations

import sys
import threading
import time
from collections import deque
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING

from git_theta_ext.comparison.words import human_bytes
from git_theta_ext.util.text import printable

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from rich.progress import Progress, TaskID

_DELAY = 1.0
"""Seconds before a bar is shown."""

_INTERVAL = 10.0
"""Seconds between two lines."""

_LEAST = 1e-3
"""Seconds over which a rate is taken at least, of work that began right before a line."""

_REDRAW = 0.05
_LINES_OF_RATE = 3
"""The rate is that of the last lines, so that it follows the connection and yet does not jump."""

_MINUTE = 60
_HOUR = 3600


class Display:
    """Shows one thing at a time on stderr."""

    def __init__(self) -> None:
        self._lock = threading.RLock()
        self._works: list[_Work] = []
        self._ticker = _Ticker(self._lock, self._works)

    @contextmanager
    def progress(
        self, label: str, total: int, prefix: str, say: Callable[[str], None], *, counted: bool = False
    ) -> Iterator[_Work]:
        """Show the progress of some work.

        Args:
            label: Name of the work.
            total: Its size in bytes; 0 if unknown.
            prefix: Precedes a line, but not a bar.
            say: Prints a line on stderr.
            counted: Whether the size is a number of items instead of bytes.

        Yields:
            The ``Progress``, see ``util.reporter``.
        """
        view: _Bar | _Lines = _Bar(counted=counted)
        if not _on_terminal():
            view = _Lines(lambda words: say(prefix + words), self._ticker, counted=counted)
        work = _Work(printable(label), total, view, self._lock, self._works)
        with self._lock:
            if self._works:
                self._works[-1].hide()
            self._works.append(work)
        try:
            yield work
        finally:
            with self._lock:
                self._works.remove(work)
                work.hide()


class _Work:
    """What was done of some work; see ``util.reporter.Progress``."""

    def __init__(self, label: str, total: int, view: _Bar | _Lines, lock: threading.RLock, works: list[_Work]) -> None:
        self.label = label
        self.total = total
        self._done = 0
        self._view = view
        self._lock = lock
        self._works = works

    @property
    def done(self) -> int:
        """The bytes or items that are done, never more than there are."""
        return min(self._done, self.total) if self.total else self._done

    def __call__(self, count: int) -> None:
        with self._lock:
            self._done += count
            if self._works[-1:] == [self]:
                self._view.show(self)

    def expect(self, count: int) -> None:
        """Add bytes to the total."""
        with self._lock:
            self.total += count

    def hide(self) -> None:
        self._view.hide(self)

    def tick(self) -> None:
        self._view.tick(self)


class _Bar:
    """Starts the real bar, and imports rich, only after the delay."""

    def __init__(self, *, counted: bool) -> None:
        self._counted = counted
        self._start = self._drawn = time.monotonic()
        self._shown: tuple[Progress, TaskID] | None = None

    def show(self, work: _Work) -> None:
        now = time.monotonic()
        if self._shown is None and now - self._start > _DELAY:
            self._shown = self._begin(work)
        elif now - self._drawn > _REDRAW:
            self._drawn = now
            self._draw(work)

    def hide(self, work: _Work) -> None:
        if self._shown is not None:
            self._draw(work)
            self._shown[0].stop()
            self._shown = None

    def tick(self, work: _Work) -> None:
        pass

    def _draw(self, work: _Work) -> None:
        if self._shown is not None:
            bar, task = self._shown
            bar.update(task, completed=work.done, total=work.total or None)

    def _begin(self, work: _Work) -> tuple[Progress, TaskID]:
        from rich.console import Console
        from rich.progress import (
            BarColumn,
            DownloadColumn,
            MofNCompleteColumn,
            Progress,
            TextColumn,
            TimeRemainingColumn,
            TransferSpeedColumn,
        )

        done = [MofNCompleteColumn()] if self._counted else [DownloadColumn(), TransferSpeedColumn()]
        label = TextColumn("{task.description}", markup=False)
        columns = (label, BarColumn(bar_width=20), *done, TimeRemainingColumn())
        bar = Progress(*columns, console=Console(stderr=True), transient=True)
        task = bar.add_task(work.label, total=work.total or None, completed=work.done)
        bar.start()
        return bar, task


class _Ticker:
    """Lets work print a line every ten seconds, from a thread, so that a connection that stalls shows too.

    To start a thread and to wait for its end takes longer than most works. So there is one for all of them, which ends
    at its next tick without work.
    """

    def __init__(self, lock: threading.RLock, works: list[_Work]) -> None:
        self._lock = lock
        self._works = works
        self._thread: threading.Thread | None = None

    def start(self) -> None:
        """Tick if this does not tick already; the caller has the lock."""
        if self._thread is None:
            self._thread = threading.Thread(target=self._run, daemon=True)
            self._thread.start()

    def _run(self) -> None:
        while True:
            time.sleep(_INTERVAL)
            with self._lock:
                if not self._works:
                    self._thread = None
                    return
                for work in self._works:
                    work.tick()


class _Lines:
    """Prints a line at each tick, while it is visible."""

    def __init__(self, say: Callable[[str], None], ticker: _Ticker, *, counted: bool) -> None:
        self._say = say
        self._ticker = ticker
        self._counted = counted
        self._samples = deque([(time.monotonic(), 0)], _LINES_OF_RATE + 1)
        self._visible = False

    def show(self, _: _Work) -> None:
        self._visible = True
        self._ticker.start()

    def hide(self, _: _Work) -> None:
        self._visible = False

    def tick(self, work: _Work) -> None:
        self._samples.append((time.monotonic(), work.done))
        if self._visible:
            (begun, before), (now, after) = self._samples[0], self._samples[-1]
            self._say(line(work.label, after, work.total, (after - before) / max(now - begun, _LEAST), self._counted))


def _on_terminal() -> bool:
    with suppress(AttributeError, ValueError):  # stderr may never have been open, or be closed
        return sys.stderr.isatty()
    return False


def line(label: str, done: int, total: int, rate: float, counted: bool = False) -> str:  # noqa: FBT001, FBT002 - one caller
    """Describe how far some work is.

    Args:
        label: Name of the work.
        done: Bytes or items that are done.
        total: All of them; 0 if unknown.
        rate: How many were done in a second.
        counted: Whether they are items.
    """
    amount: Callable[[int], str] = str if counted else human_bytes
    words = f"{amount(done)} of {amount(total)} ({100 * done // total} %)" if total else amount(done)
    words += f", {rate:.3g}/s" if counted else f", {human_bytes(int(rate))}/s"
    return f"{label}: {words}" + (f", {_duration((total - done) / rate)} left" if rate and total else "")


def _duration(seconds: float) -> str:
    if seconds < _MINUTE:
        return f"{seconds:.0f} s"
    if seconds < _HOUR:
        return f"{seconds / _MINUTE:.0f} min"
    return f"{seconds // _HOUR:.0f} h {seconds % _HOUR // _MINUTE:.0f} min"
