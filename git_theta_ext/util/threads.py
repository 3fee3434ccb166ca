"""Run independent pieces of work in threads, in bounded memory, with results in order."""

from __future__ import annotations

import os
from collections import deque
from heapq import nlargest
from itertools import chain, repeat
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator
    from concurrent.futures import Future, ThreadPoolExecutor

Item = TypeVar("Item")
Result = TypeVar("Result")


LARGEST_KEPT = (1 << 25) - (1 << 16)
"""Bytes; glibc takes no account of what is larger than 32 MiB."""


def keep_freed_memory(largest: int) -> None:
    """Have the C library keep what is freed, up to twice ``largest`` bytes, for what is needed next.

    Only glibc needs to be told. It hands blocks back to the kernel that are larger than any that was freed before
    (mallopt(3), M_MMAP_THRESHOLD). Having pages cleared again for every array would cost a tenth of recoding, and more
    of merging.

    Args:
        largest: Size of the largest arrays that are used over and over, ``LARGEST_KEPT`` at most.
    """
    bytes(largest)  # zeros that nobody looks at: no page of them is ever there


def no_progress(_: int) -> None:
    """Stand in for a caller that does not want to be told how far the work is."""


def thread_count(wanted: int = 0) -> int:
    """Return the number of threads to use: as wanted, or one for each processor that this process may run on."""
    return wanted or len(os.sched_getaffinity(0))


def window(threads: int) -> int:
    """Return how many pieces may be begun and not yet taken, so that no thread waits for the one who takes them."""
    return 2 * threads + 2


def largest_sum(count: int, sizes: Iterable[tuple[int, int]]) -> int:
    """Return the most bytes that some pieces take at the same time.

    Args:
        count: Number of pieces that are in memory at the same time.
        sizes: Size of a piece, and the number of pieces of this size.
    """
    return sum(nlargest(count, chain.from_iterable(repeat(size, min(times, count)) for size, times in sizes)))


def ordered_map(
    executor: ThreadPoolExecutor, work: Callable[[Item], Result], items: Iterable[Item], window: int
) -> Iterator[Result]:
    """Yield ``work(item)`` for each item in order, with at most ``window`` of them begun and not yet taken.

    When the consumer stops early or a piece fails, those not yet begun are cancelled and the others awaited, so nothing
    still works on buffers that the caller is about to free.
    """
    pending: deque[Future[Result]] = deque()
    try:
        for item in items:
            if len(pending) >= window:
                yield pending.popleft().result()
            pending.append(executor.submit(work, item))
        while pending:
            yield pending.popleft().result()
    finally:
        for future in pending:
            future.cancel()
        for future in pending:
            if not future.cancelled():
                future.exception()
