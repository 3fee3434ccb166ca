"""The setting for how long a server may be silent."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

from git_theta_ext.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Mapping

TIMEOUT = 60.0
"""The default time that a server may be silent, in seconds."""

_LONGEST_TIMEOUT = 24 * 3600


def git_limits(timeout: float) -> tuple[str, ...]:
    """Return arguments with which git gives up a server of HTTP that is silent for so many seconds."""
    return ("-c", "http.lowSpeedLimit=1", "-c", f"http.lowSpeedTime={max(1, round(timeout))}")


def timeout_of(url: str, options: Mapping[str, Any]) -> float:
    """Return the time that a server may be silent, in seconds.

    Raises:
        ConfigError: The setting is not a number of seconds.
    """
    text = options.get("timeout", TIMEOUT)
    try:
        seconds = float(text)
    except ValueError:
        seconds = math.nan
    if not 0 < seconds < _LONGEST_TIMEOUT:
        raise ConfigError(
            f"{url}: a timeout of {text!r} is not a number of seconds between 0 and {_LONGEST_TIMEOUT}",
            hint=f"git config theta.remote.NAME.timeout {TIMEOUT:g}",
        )
    return seconds
