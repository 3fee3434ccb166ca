"""Count the bytes of packs while remotes transfer them."""

from __future__ import annotations

from contextlib import contextmanager
from threading import Lock
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from git_theta_ext.util.reporter import Progress


class Tally:
    """Counts the bytes of some objects. A byte counts once, even if its transfer is repeated.

    Args:
        progress: Takes the number of bytes, and their total.
    """

    def __init__(self, progress: Progress) -> None:
        self._progress = progress
        self._lock = Lock()
        self._sizes: dict[str, int] = {}
        self._counted: dict[str, int] = {}

    def expect(self, key: str, size: int) -> None:
        """Add an object to the total, unless that was done."""
        with self._lock:
            if key not in self._sizes:
                self._sizes[key] = size
                self._progress.expect(size)

    def report(self, key: str, nbytes: int) -> None:
        """Count the first bytes of an object; those of other objects are not counted."""
        with self._lock:
            if key in self._sizes:
                self._count(key, min(nbytes, self._sizes[key]))

    def finish(self, key: str) -> None:
        """Count the rest of an object."""
        with self._lock:
            self._count(key, self._sizes[key])

    def finish_unreported(self, key: str) -> None:
        """Count an object if nothing of it was reported."""
        with self._lock:
            if key not in self._counted:
                self._count(key, self._sizes[key])

    def _count(self, key: str, nbytes: int) -> None:
        more = nbytes - self._counted.get(key, 0)
        if more >= 0:
            self._counted[key] = nbytes
            self._progress(more)


class Meter:
    """Passes on what a remote reports to those who watch it; the ``report`` of a ``RemoteContext``."""

    def __init__(self) -> None:
        self._watchers: tuple[Callable[[str, int], None], ...] = ()
        self._lock = Lock()

    def __call__(self, key: str, nbytes: int) -> None:
        """Report how many bytes of an object were transferred so far."""
        for watcher in self._watchers:
            watcher(key, nbytes)

    @contextmanager
    def watched(self, watcher: Callable[[str, int], None]) -> Iterator[None]:
        """Pass on reports in a block."""
        with self._lock:
            self._watchers += (watcher,)
        try:
            yield
        finally:
            with self._lock:
                # Methods are equal if they are of the same object.
                self._watchers = tuple(other for other in self._watchers if other != watcher)
