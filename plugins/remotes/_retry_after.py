"""Ask a busy server how long it wants to be left alone, which obstore does not report."""

from __future__ import annotations

import time
from urllib.error import HTTPError
from urllib.request import Request, urlopen

from git_theta_ext.protocol.lfs.retry import retry_after

_SECONDS = 10


def seconds_to_wait(url: str) -> float | None:
    """Return the seconds in the header ``Retry-After`` of a server that is busy; None if it does not say any.

    Args:
        url: An ``http`` or ``https`` URL on the server, signed if necessary.
    """
    if not url.startswith(("http://", "https://")):
        return None
    try:
        with urlopen(Request(url, method="HEAD"), timeout=_SECONDS):  # noqa: S310 - checked above
            return None  # it is not busy any more
    except HTTPError as error:
        return retry_after(error.headers.get("Retry-After"), time.time())
    except (OSError, ValueError):
        return None
