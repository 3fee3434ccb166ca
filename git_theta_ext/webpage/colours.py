"""The colours of a change."""

from __future__ import annotations

import math

LEVELS = 9
ALARM = "x"
UNKNOWN = "u"
_EXPONENT = 10
_LABELS = {1: "below 0.01 %", 3: "to 0.1 %", 5: "to 1 %", 7: "to 10 %", 9: "above"}
"""What the colours up to a level mean; each label is about those since the last one."""

_SHARES = {3: "to a third", 6: "to two thirds", 9: "to all"}


def level(value: float | None) -> str:
    """Return the class of a change.

    It is 0 if there is none, 1 to 9 by its logarithm, x if it is NaN or infinite, and u if it has no number.

    Two levels are a factor of ten; level 2 begins at 0.01 %.
    """
    if value is None:
        return UNKNOWN
    if not math.isfinite(value):
        return ALARM
    if value <= 0:
        return "0"
    return str(min(max(math.floor(2 * math.log10(value)) + _EXPONENT, 1), LEVELS))


def level_of_share(share: float | None) -> str:
    """Return the class of a share of all: 1 to 9 in equal steps, and 0 if it is none."""
    return UNKNOWN if share is None else str(min(math.ceil(share * LEVELS), LEVELS))


def legend_of_shares() -> list[tuple[str, str]]:
    """Return the class and the label of each colour of a share, for a key."""
    return [(str(number), _SHARES.get(number, "")) for number in range(1, LEVELS + 1)]


def legend() -> list[tuple[str, str]]:
    """Return the class and the label of each colour, for a key."""
    steps = [(str(number), _LABELS.get(number, "")) for number in range(1, LEVELS + 1)]
    return [("0", "same"), *steps, (ALARM, "NaN, inf or from zero"), (UNKNOWN, "no number")]
