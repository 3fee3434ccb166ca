"""Share work out, and do the shares side by side."""

from __future__ import annotations

import threading
from contextlib import closing
from dataclasses import dataclass
from queue import SimpleQueue
from typing import TYPE_CHECKING, Generic, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterator, Sequence

Item = TypeVar("Item")


def shares(items: Sequence[Item], sizes: Sequence[int], allowed: Sequence[Sequence[int]]) -> dict[int, list[Item]]:
    """Share items out, the largest first, each to the one who has least so far.

    Args:
        items: What to share out.
        sizes: Of each item.
        allowed: Who may get each item, by number; at least one.

    Returns:
        Number to items, in the order in which they were given; without those who got none.
    """
    loads: dict[int, int] = {}
    found: dict[int, list[int]] = {}
    for item in sorted(range(len(items)), key=lambda number: -sizes[number]):
        who = min(allowed[item], key=lambda number: (loads.get(number, 0), number))
        loads[who] = loads.get(who, 0) + sizes[item]
        found.setdefault(who, []).append(item)
    return {who: [items[number] for number in sorted(found[who])] for who in sorted(found)}


@dataclass(frozen=True)
class _News(Generic[Item]):
    """What a thread has to say: one item, or that it is at its end, perhaps by an error."""

    thread: _Thread[Item]
    items: tuple[Item, ...] = ()
    error: BaseException | None = None


class _Thread(threading.Thread, Generic[Item]):
    """Runs a generator, one item ahead of whoever takes them."""

    def __init__(self, source: Callable[[], Generator[Item, None, None]], told: SimpleQueue[_News[Item]]) -> None:
        super().__init__()
        self._source = source
        self._told = told
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
                    self._told.put(_News(self, (item,)))
        except BaseException as raised:  # noqa: BLE001 - the consumer raises it
            error = raised
        self._told.put(_News(self, (), error))

    def go_on(self) -> None:
        self._taken.release()

    def stop(self) -> None:
        self._stopped = True
        self._taken.release()


def interleaved(sources: Sequence[Callable[[], Generator[Item, None, None]]]) -> Iterator[Item]:
    """Yield what several generators yield as it comes, each of them run in a thread of its own; a single one in ours.

    Each is one item ahead of the consumer. When it stops early, or one of them fails, all are stopped and awaited.

    Raises:
        BaseException: What the first one raised that failed.
    """
    if len(sources) == 1:
        with closing(sources[0]()) as only:
            yield from only
        return
    told: SimpleQueue[_News[Item]] = SimpleQueue()
    threads = [_Thread(source, told) for source in sources]
    for thread in threads:
        thread.start()
    try:
        running = len(threads)
        while running:
            news = told.get()
            if news.error is not None:
                raise news.error
            running -= not news.items
            yield from news.items
            news.thread.go_on()
    finally:
        for thread in threads:
            thread.stop()
        for thread in threads:
            thread.join()
