"""Sums of integers: numpy and torch wrap around silently if one does not fit in 64 bits."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from git_theta_ext.errors import MergeError
from git_theta_ext.interfaces import array_namespace, astype

if TYPE_CHECKING:
    from collections.abc import Sequence

    from git_theta_ext.interfaces import Array

_BLOCK = 1 << 16
"""Elements that are checked at a time, so that this takes little memory."""
_LARGEST = float((1 << 63) - (1 << 20))
"""If a sum in float64 is below this, the exact sum fits, whatever the rounding errors of any number of branches."""


def check_sum(terms: Sequence[tuple[int, Array]]) -> None:
    """Check that sums of integers fit in 64 bits.

    Args:
        terms: The arrays that are added, all of one shape, and the factor of each.

    Raises:
        MergeError: A sum may not fit.
    """
    xp = array_namespace(terms[0][1])
    flat = [(times, values.reshape(-1)) for times, values in terms]
    for start in range(0, math.prod(flat[0][1].shape), _BLOCK):
        parts = [astype(values[start : start + _BLOCK], xp.float64) * times for times, values in flat]
        if not bool((abs(sum(parts)) < _LARGEST).all()):
            raise MergeError("the sum does not fit in 64 bits")
