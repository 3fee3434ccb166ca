"""How a download continues after the bytes that are already there."""

from __future__ import annotations

import re
from enum import Enum, auto

_CONTENT_RANGE = re.compile(r"bytes (\d{1,19})-(\d{1,19})/(\d{1,19}|\*)")


class Continuation(Enum):
    """What the body of an answer to a range request is."""

    REST = auto()
    WHOLE = auto()
    START_OVER = auto()
    WRONG = auto()


def range_header(start: int, end: int | None = None) -> str | None:
    """Return the header ``Range`` for the bytes from ``start`` up to ``end``; None for the whole object."""
    if not start and end is None:
        return None
    return f"bytes={start}-" if end is None else f"bytes={start}-{end - 1}"


def continuation(status: int, content_range: str | None, start: int, size: int) -> Continuation:
    """Return what the body of an answer is.

    Args:
        status: Status of the answer.
        content_range: The header ``Content-Range``.
        start: The first byte that was requested.
        size: Size of the object in bytes, as it is known.

    Returns:
        ``REST`` if the body starts at ``start``; ``WHOLE`` if it is the whole object, since a server may ignore ranges;
        ``START_OVER`` if the object must be requested without a range; ``WRONG`` if it is another object.
    """
    if status == 200:  # noqa: PLR2004 - HTTP
        return Continuation.WHOLE if start else Continuation.REST
    if status == 416:  # noqa: PLR2004 - HTTP
        return Continuation.START_OVER
    match = _CONTENT_RANGE.fullmatch((content_range or "").strip())
    if status != 206 or match is None:  # noqa: PLR2004 - HTTP
        return Continuation.START_OVER if start else Continuation.WRONG
    if match[3] != "*" and int(match[3]) != size:
        return Continuation.WRONG
    return Continuation.REST if int(match[1]) == start else Continuation.START_OVER
