"""Try again what a network or a busy server may have spoiled."""

from __future__ import annotations

import time
from contextlib import suppress
from typing import TYPE_CHECKING, TypeVar

from git_theta_ext.errors import RemoteError

if TYPE_CHECKING:
    from collections.abc import Callable

Result = TypeVar("Result")

_WAITS = (0.2, 0.8)  # seconds before the second and the third try


def retried(action: Callable[[], Result]) -> Result:
    """Do something at most three times, waiting longer each time.

    Raises:
        RemoteError: The third try failed as well.
    """
    for wait in _WAITS:
        with suppress(RemoteError):
            return action()
        time.sleep(wait)
    return action()
