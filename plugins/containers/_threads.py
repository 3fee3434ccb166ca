"""Work in threads, with the results in order."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, TypeVar

from git_theta_ext.interfaces import ordered_map

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterable

Item = TypeVar("Item")
Result = TypeVar("Result")

_AHEAD = 2
"""Results for each thread that are made before they are taken."""


def in_order(work: Callable[[Item], Result], items: Iterable[Item], threads: int) -> Generator[Result, None, None]:
    """Yield ``work(item)`` for each item in order; one thread is the caller's own."""
    if threads == 1:
        yield from map(work, items)
        return
    with ThreadPoolExecutor(threads) as executor:
        yield from ordered_map(executor, work, items, _AHEAD * threads)
