"""Count some work as a part of other work."""

from __future__ import annotations

from threading import Lock
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable


class Share:
    """Counts work in its own units, and passes it on as a share of the whole. Any thread can call it.

    Args:
        advance: Counts the whole.
        worth: What all of this work counts for in the whole.
        total: Returns all of this work in its own units; it may change.
    """

    def __init__(self, advance: Callable[[int], None], worth: int, total: Callable[[], int]) -> None:
        self._advance = advance
        self._worth = worth
        self._total = total
        self._done = self._passed = 0
        self._lock = Lock()

    def __call__(self, count: int) -> None:
        """Count what was done since the last call. What exceeds the total is ignored."""
        with self._lock:
            self._done += count
            total = max(self._total(), 1)
            self._pass(self._worth * min(self._done, total) // total)

    def finish(self) -> None:
        """Count the rest."""
        with self._lock:
            self._pass(self._worth)

    def _pass(self, reached: int) -> None:
        if reached > self._passed:
            self._advance(reached - self._passed)
            self._passed = reached
