"""Run independent tasks in threads, with bounded memory, and yield their results in order."""

from __future__ import annotations

from collections import deque
from contextlib import nullcontext
from functools import cache
from heapq import nlargest
from itertools import chain, repeat
from typing import TYPE_CHECKING, TypeVar

from git_theta_ext.util.processes import cpu_count

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterable, Iterator
    from concurrent.futures import Future, ThreadPoolExecutor
    from contextlib import AbstractContextManager

Item = TypeVar("Item")
Result = TypeVar("Result")


TOGETHER = 1 << 18
"""Bytes of small tensors that a thread processes in one task: handing over each of them takes longer than the work."""

ALONE = 1 << 21
"""Bytes that one thread processes before others would have started."""

LARGEST_KEPT = (1 << 25) - (1 << 16)
"""Bytes; glibc ignores blocks larger than 32 MiB."""


@cache
def keep_freed_memory(largest: int) -> None:
    """Make the C library keep freed memory, up to twice ``largest`` bytes, for reuse.

    This concerns glibc only. It returns blocks to the kernel that are larger than any that was freed before
    (mallopt(3), M_MMAP_THRESHOLD). Clearing new pages for every array takes a tenth of the time
    of recoding, and more of merging.

    It is done once for each size: the second time, memory that was freed would be cleared.

    Args:
        largest: Size in bytes of the largest arrays that are reused, at most ``LARGEST_KEPT``.
    """
    bytes(largest)  # these zeros are never read, so no page is allocated


class _NoProgress:
    def __call__(self, nbytes: int) -> None:
        """Ignore progress."""

    def expect(self, nbytes: int) -> None:
        """Ignore the size of work."""


no_progress = _NoProgress()
"""The ``util.reporter.Progress`` of work whose progress nobody watches."""


def thread_count(wanted: int = 0) -> int:
    """Return the number of threads to use: ``wanted``, or one per CPU that this process may run on if that is 0."""
    return wanted or cpu_count()


def window(threads: int) -> int:
    """Return how many tasks may be started ahead of the consumer, so that no thread waits for it."""
    return 2 * threads + 2


def pool(threads: int, nbytes: int, alone: int = ALONE) -> AbstractContextManager[ThreadPoolExecutor | None]:
    """Return an executor for ``ordered_map``; None if the work is so small that the caller does it itself.

    Args:
        threads: Number of threads.
        nbytes: Size of the work in bytes.
        alone: The size up to which it is small.
    """
    if nbytes <= alone:
        return nullcontext()
    from concurrent.futures import ThreadPoolExecutor  # which imports logging

    return ThreadPoolExecutor(threads)


def largest_sum(count: int, sizes: Iterable[tuple[int, int]]) -> int:
    """Return the most bytes that some pieces take at the same time.

    Args:
        count: Number of pieces that are in memory at the same time.
        sizes: Size of a piece, and the number of pieces of this size.
    """
    return sum(nlargest(count, chain.from_iterable(repeat(size, min(times, count)) for size, times in sizes)))


def ordered_map(
    executor: ThreadPoolExecutor | None, work: Callable[[Item], Result], items: Iterable[Item], window: int
) -> Generator[Result]:
    """Yield ``work(item)`` for each item in order, with at most ``window`` tasks started ahead of the consumer.

    Without an executor, each item is worked on when the consumer asks for its result.

    If the consumer stops early or a task fails, tasks that have not started are cancelled and the others awaited, so
    that none uses buffers that the caller frees.
    """
    if executor is None:
        yield from map(work, items)
        return
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


def batched_map(
    executor: ThreadPoolExecutor | None,
    work: Callable[[Item], Result],
    items: Iterable[Item],
    window: int,
    size: Callable[[Item], int],
) -> Generator[Result]:
    """Yield ``work(item)`` for each item in order as ``ordered_map`` does, with tasks that process several small items.

    Args:
        executor: Runs the tasks.
        work: Called with each item.
        items: The items.
        window: Maximum number of tasks that are started ahead of the consumer.
        size: Returns the size of an item in bytes.
    """
    tasks = ordered_map(executor, lambda batch: list(map(work, batch)), batches(items, size), window)
    try:
        for results in tasks:
            yield from results
    finally:
        tasks.close()


def batches(items: Iterable[Item], size: Callable[[Item], int], most: int = TOGETHER) -> Iterator[list[Item]]:
    """Yield the items in lists, in order.

    Args:
        items: The items.
        size: Returns the size of an item in bytes.
        most: Maximum size of the items of a list, unless it has one item.
    """
    batch: list[Item] = []
    filled = 0
    for item in items:
        nbytes = size(item)
        if batch and filled + nbytes > most:
            yield batch
            batch, filled = [], 0
        batch.append(item)
        filled += nbytes
    if batch:
        yield batch
