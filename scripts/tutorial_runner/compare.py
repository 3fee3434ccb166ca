"""Compare printed text with expected text but for what differs from run to run: ids, dates and measured numbers."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

ANYTHING = "…"
"""As a line: any number of lines. At the end of a line: any rest of it."""

_TOKEN = re.compile(r"\d+(?:\.\d+)?e[+-]\d+|\d+\.\d+|\w+|[^\w\s]")
_ID = re.compile(r"[0-9a-f]{7,64}")
_NUMBER = re.compile(r"\d+(?:\.\d+)?(?:e[+-]\d+)?")
_DATE = re.compile(r"\b\d{4}-\d\d-\d\d(T\d\d:\d\d:\d\dZ)?\b")
_RANGE = re.compile(rf"({_NUMBER.pattern}) … {_NUMBER.pattern}")
_BARS = frozenset("▁▂▃▄▅▆▇█▏▎▍▌▋▊▉")
_UNITS = {"B", "kB", "MB", "GB", "KiB", "MiB", "bytes", "ms", "s", "%"}
_TOLERANCE = 0.2
"""Measured numbers, such as compressed sizes, vary a little with the versions of libraries."""


def same(expected: Sequence[str], printed: Sequence[str]) -> bool:
    """Return whether lines are as expected."""
    # reachable: how many printed lines the expected ones so far may stand for
    reachable = {0}
    for line in expected:
        if line.strip() == ANYTHING:
            reachable = set(range(min(reachable, default=len(printed) + 1), len(printed) + 1))
        else:
            reachable = {at + 1 for at in reachable if at < len(printed) and _same_line(line, printed[at])}
    return len(printed) in reachable


def _same_line(expected: str, printed: str) -> bool:
    if expected == printed:
        return True
    if expected.rstrip().endswith(ANYTHING):
        wanted = _tokens(expected.rstrip()[: -len(ANYTHING)])
        found = _tokens(printed)[: len(wanted)]
    else:
        wanted, found = _tokens(expected), _tokens(printed)
    if len(wanted) != len(found):
        return False
    pairs = enumerate(zip(wanted, found, strict=True))
    return all(_same_token(one, other, measured=_measured(wanted, at)) for at, (one, other) in pairs)


def _tokens(line: str) -> list[str]:
    return [token for token in _TOKEN.findall(_RANGE.sub(r"\1", _DATE.sub("DATE", line))) if token not in _BARS]


def _measured(tokens: list[str], at: int) -> bool:
    """Return whether a token is a number that was measured, and not one of things that are counted."""
    if not _NUMBER.fullmatch(tokens[at]):
        return False
    before, after = (tokens[n] if 0 <= n < len(tokens) else "" for n in (at - 1, at + 1))
    return "." in tokens[at] or "e" in tokens[at] or after in _UNITS or before == "rank"


def _same_token(expected: str, printed: str, *, measured: bool) -> bool:
    if expected == printed or (_ID.fullmatch(expected) and _ID.fullmatch(printed)):
        return True
    if not (measured and _NUMBER.fullmatch(printed)):
        return False
    one, other = float(expected), float(printed)
    return abs(one - other) <= _TOLERANCE * max(one, other)
