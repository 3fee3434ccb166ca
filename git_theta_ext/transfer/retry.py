"""Retry requests to remotes."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, TypeVar

from git_theta_ext.errors import RemoteError, RemoteTimeoutError

if TYPE_CHECKING:
    from collections.abc import Callable

Result = TypeVar("Result")

_WAITS = (0.2, 0.8)  # seconds before the second and the third try


def retried(action: Callable[[], Result]) -> Result:
    """Try an action up to three times, waiting longer each time.

    Raises:
        RemoteError: The third try failed as well.
        RemoteTimeoutError: The remote did not answer. This is not retried.
    """
    for wait in _WAITS:
        try:
            return action()
        except RemoteTimeoutError:
            raise
        except RemoteError:
            pass
        time.sleep(wait)
    return action()
