"""Measure what reading something hostile takes."""

from __future__ import annotations

import gc
import tracemalloc
from contextlib import suppress
from typing import TYPE_CHECKING

from git_theta_ext.errors import ThetaError

if TYPE_CHECKING:
    from collections.abc import Callable


def memory_of(read: Callable[[], object]) -> int:
    """Return the most bytes of Python objects that reading takes at once, whether it succeeds or is refused."""
    gc.collect()
    tracemalloc.start()
    try:
        with suppress(ThetaError):
            read()
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


class CountedText(str):
    """A text that counts how often any of its kind is compared."""

    __slots__ = ()
    comparisons = 0

    def __eq__(self, other: object) -> bool:
        CountedText.comparisons += 1
        return str.__eq__(self, other)

    __hash__ = str.__hash__
