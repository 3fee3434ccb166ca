"""Decide which bytes of a remote's pack to fetch: all of them, or the ranges of some entries."""

from __future__ import annotations

from typing import TYPE_CHECKING

from git_theta_ext.records import dataclass

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Iterator

    from git_theta_ext.store.packs.format import Entry, PackHeader

REQUEST = 1 << 19
"""Bytes that take about as long as one more request."""

_WORTH = 0.75
"""Share of a pack, with its requests counted as bytes, up to which ranges are fetched. The whole pack has a name that
proves its bytes, its download is resumed, and the next fetch needs no more of it."""


@dataclass(frozen=True)
class Range:
    """Bytes of a pack that are fetched together.

    Attributes:
        start: Offset of the first byte.
        end: Offset after the last byte.
        entries: The entries that lie in it.
    """

    start: int
    end: int
    entries: tuple[Entry, ...]


@dataclass(frozen=True)
class Portion:
    """What to fetch of a pack.

    Attributes:
        pack_bytes: Size of the pack.
        ranges: The ranges to fetch, in order; None for the whole pack.
    """

    pack_bytes: int
    ranges: tuple[Range, ...] | None = None

    @property
    def nbytes(self) -> int:
        """Number of bytes to fetch."""
        return self.pack_bytes if self.ranges is None else sum(one.end - one.start for one in self.ranges)


def portion(header: PackHeader, numbers: Collection[int], *, whole: bool = False) -> Portion:
    """Choose between a pack and ranges of it, by bytes and requests.

    Args:
        header: Header of the pack.
        numbers: Numbers of the entries that are needed.
        whole: Whether to fetch the whole pack in any case.
    """
    everything = Portion(header.pack_bytes)
    if whole or len(numbers) == len(header.entries):
        return everything
    some = Portion(header.pack_bytes, tuple(coalesced((header.entries[number] for number in numbers), REQUEST)))
    cost = some.nbytes + REQUEST * len(some.ranges or ())
    return some if cost <= _WORTH * (header.pack_bytes + REQUEST) else everything


def coalesced(entries: Iterable[Entry], gap: int) -> Iterator[Range]:
    """Yield ranges that cover entries of one pack, in order. Bytes between entries are fetched if they are few.

    Args:
        entries: The entries, in any order.
        gap: Number of unneeded bytes from which on a new range begins.
    """
    held: list[Entry] = []
    end = 0
    for entry in sorted(entries, key=lambda entry: (entry.offset, entry.stored)):
        if held and entry.offset - end >= gap:
            yield Range(held[0].offset, end, tuple(held))
            held = []
        held.append(entry)
        end = entry.offset + entry.stored
    if held:
        yield Range(held[0].offset, end, tuple(held))


def pieces(ranges: Iterable[Range], most: int) -> Iterator[tuple[Range, int, int]]:
    """Divide ranges into pieces of limited size, each with its range and its first and last offset."""
    for one in ranges:
        for start in range(one.start, one.end, most):
            yield one, start, min(start + most, one.end)
