"""When a request to a server is repeated, and after which time."""

from __future__ import annotations

from email.utils import parsedate_to_datetime
from enum import Enum, auto

TRIES = 6
"""How often a request is sent that fails without any progress."""
LONGEST_WAIT = 300.0
"""The longest ``Retry-After`` that is obeyed, in seconds."""

_FIRST_WAIT = 0.25
_LONGEST_BACKOFF = 10.0
_AGAIN = frozenset({408, 429, 500, 502, 503, 504})


class Verdict(Enum):
    """What the status of an answer means for an object."""

    DONE = auto()
    AGAIN = auto()
    EXPIRED = auto()
    REFUSED = auto()


def judge(status: int) -> Verdict:
    """Return what the status of an answer means: an action whose credentials are refused has expired."""
    if 200 <= status < 300:  # noqa: PLR2004 - success
        return Verdict.DONE
    if status in _AGAIN:
        return Verdict.AGAIN
    return Verdict.EXPIRED if status in {401, 403} else Verdict.REFUSED


def backoff(number: int, jitter: float) -> float:
    """Return how long to wait after a failure, in seconds.

    Args:
        number: Number of failures so far without progress, from 1.
        jitter: A random number from 0 to 1, so that clients that failed together do not come back together.
    """
    return float(min(_LONGEST_BACKOFF, _FIRST_WAIT * 2 ** min(number - 1, 16))) * (0.5 + jitter / 2)


def retry_after(value: str | None, now: float) -> float | None:
    """Return the time to wait that a server asks for, in seconds; None if it does not.

    Args:
        value: The header ``Retry-After``: a number of seconds or a date.
        now: The present time, in seconds since 1970.
    """
    if value is None or len(value) > 100:  # noqa: PLR2004 - longer than any date
        return None
    text = value.strip()
    if text.isascii() and text.isdigit():
        return float(text)
    try:
        return max(0.0, parsedate_to_datetime(text).timestamp() - now)
    except (ValueError, TypeError, OverflowError):
        return None
