"""Try something again that failed, after a while, a limited number of times."""

from __future__ import annotations

import random
import time

from git_theta_ext.errors import RemoteError, RemoteTimeoutError
from git_theta_ext.protocol.lfs.retry import LONGEST_WAIT, TRIES, backoff, retry_after

_ENOUGH = 1 << 18
_MOST = 100


class Attempts:
    """Counts the failures of one transfer, and waits after each."""

    def __init__(self) -> None:
        self._failures = 0
        self._all = 0

    def progressed(self, nbytes: int) -> None:
        """Note that bytes were transferred: a connection that breaks after many bytes is worth another try."""
        if nbytes >= _ENOUGH:
            self._failures = 0

    def failed(self, error: RemoteError, asked: str | None = None) -> None:
        """Wait before the next try.

        Args:
            error: What happened.
            asked: The header ``Retry-After`` of the answer.

        Raises:
            RemoteTimeoutError: There were enough tries, or the server wants to wait for too long.
        """
        self._failures += 1
        self._all += 1
        wait = retry_after(asked, time.time())
        if self._failures >= TRIES or self._all >= _MOST:
            raise RemoteTimeoutError(f"{error.message}; tried {self._all} times", hint=error.hint) from error
        if wait is not None and wait > LONGEST_WAIT:
            raise RemoteTimeoutError(f"{error.message}; the server asks to wait for {wait:.0f} seconds") from error
        time.sleep(backoff(self._failures, random.random()) if wait is None else wait)  # noqa: S311 - no secret
