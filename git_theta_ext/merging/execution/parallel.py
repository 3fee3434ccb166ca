"""Distribute work, and run the shares in parallel."""

from __future__ import annotations

import threading
from contextlib import closing
from typing import TYPE_CHECKING, Generic, TypeVar

from git_theta_ext.records import dataclass

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterator, Sequence
    from queue import SimpleQueue

Item = TypeVar("Item")


def shares(items: Sequence[Item], sizes: Sequence[int], allowed: Sequence[Sequence[int]]) -> dict[int, list[Item]]:
    """Distribute items among workers: the largest first, each to the worker with the smallest load so far.

    Args:
        items: The items.
        sizes: Size of each item.
        allowed: Indices of the workers that may get each item; at least one.

    Returns:
        Index of each worker that got items to these items, in their original order.
    """
    loads: dict[int, int] = {}
    assigned: dict[int, list[int]] = {}
    for item in sorted(range(len(items)), key=lambda number: -sizes[number]):
        worker = min(allowed[item], key=lambda number: (loads.get(number, 0), number))
        loads[worker] = loads.get(worker, 0) + sizes[item]
        assigned.setdefault(worker, []).append(item)
    return {worker: [items[number] for number in sorted(assigned[worker])] for worker in sorted(assigned)}


@dataclass(frozen=True)
class _Message(Generic[Item]):
    """A message of a thread: an item, or that it has ended, possibly with an error."""

    thread: _Thread[Item]
    items: tuple[Item, ...] = ()
    error: BaseException | None = None


class _Thread(threading.Thread, Generic[Item]):
    """Runs a generator, one item ahead of the consumer."""

    def __init__(self, source: Callable[[], Generator[Item, None, None]], queue: SimpleQueue[_Message[Item]]) -> None:
        super().__init__()
        self._source = source
        self._told = queue
        self._taken = threading.Semaphore(1)
        self._stopped = False

    def run(self) -> None:
        error: BaseException | None = None
        try:
            with closing(self._source()) as source:
                for item in source:
                    self._taken.acquire()
                    if self._stopped:
                        break
                    self._told.put(_Message(self, (item,)))
        except BaseException as raised:  # noqa: BLE001 - the consumer raises it
            error = raised
        self._told.put(_Message(self, (), error))

    def resume(self) -> None:
        self._taken.release()

    def stop(self) -> None:
        self._stopped = True
        self._taken.release()


def interleaved(sources: Sequence[Callable[[], Generator[Item, None, None]]]) -> Iterator[Item]:
    """Yield the items of several generators as they come; each runs in its own thread, a single one in this thread.

    Each generator is one item ahead of the consumer. If the consumer stops early or a generator fails, all are stopped
    and awaited.

    Raises:
        BaseException: The exception of the first generator that failed.
    """
    if len(sources) <= 1:
        for source in sources:
            with closing(source()) as only:
                yield from only
        return
    from queue import SimpleQueue  # most merges use one device

    queue: SimpleQueue[_Message[Item]] = SimpleQueue()
    threads = [_Thread(source, queue) for source in sources]
    for thread in threads:
        thread.start()
    try:
        running = len(threads)
        while running:
            message = queue.get()
            if message.error is not None:
                raise message.error
            running -= not message.items
            yield from message.items
            message.thread.resume()
    finally:
        for thread in threads:
            thread.stop()
        for thread in threads:
            thread.join()
