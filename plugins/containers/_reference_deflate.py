"""Compress as zlib does, to the byte, without the library.

Which bytes a compressor makes is not part of the deflate format (RFC 1951): zlib-ng and others write other bytes than
zlib for the same level. This follows zlib's ``deflate.c`` (the algorithm of 1.2.5 to 1.3.1): it finds matches by chains
of equal hashes of three bytes in a window that slides by 32 KiB, and prefers later matches from level 4 on. It takes
seconds for a megabyte, and is used only if the library of this machine writes something else.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from ._reference_trees import BlockWriter

if TYPE_CHECKING:
    from typing_extensions import Buffer

    from ._reference_trees import Bits

_WINDOW = 1 << 15
_SHORTEST, _LONGEST = 3, 258
_AHEAD = _LONGEST + _SHORTEST + 1
"""Bytes after the current one that are known before a match is searched, unless the input ends."""
_FARTHEST = _WINDOW - _AHEAD
_TOO_FAR = 4096
"""Distance from which on a match of three bytes takes more bits than three literals."""


class _Effort(NamedTuple):
    good: int
    """The length of a match from which on a later one is searched less."""
    lazy: int
    """The length of a match from which on no later one is searched."""
    nice: int
    """The length of a match that ends a search."""
    chain: int
    """The most places that are compared."""


_EFFORTS = (
    _Effort(0, 0, 0, 0), _Effort(4, 4, 8, 4), _Effort(4, 5, 16, 8), _Effort(4, 6, 32, 32), _Effort(4, 4, 16, 16),
    _Effort(8, 16, 32, 32), _Effort(8, 16, 128, 128), _Effort(8, 32, 128, 256), _Effort(32, 128, 258, 1024),
    _Effort(32, 258, 258, 4096),
)  # fmt: skip
_FIRST_LAZY = 4


class ReferenceDeflate:
    """A compressor of raw deflate streams with the methods of ``zlib.compressobj``.

    Args:
        level: From 1 to 9.
        memory: zlib's ``memLevel``, from 1 to 9.
        dictionary: Bytes before the first ones, in which matches are found; at most 32 KiB.
    """

    def __init__(self, level: int, memory: int, dictionary: Buffer = b"") -> None:
        self._effort = _EFFORTS[level]
        self._lazy = level >= _FIRST_LAZY
        self._shift = (memory + 9) // 3
        self._mask = (1 << memory + 7) - 1
        self._most_symbols = (1 << memory + 6) - 1
        self._window = bytearray(2 * _WINDOW + _LONGEST)
        self._heads = [0] * (self._mask + 1)
        self._chain = [0] * _WINDOW
        self._start = self._ahead = self._block = 0
        self._match = 0
        self._length = self._previous = _SHORTEST - 1
        self._pending = False
        self._symbols: list[int] = []
        self._writer = BlockWriter()
        known = memoryview(dictionary)
        self._start = self._block = known.nbytes
        self._window[: self._start] = known
        self._late = min(self._start, _SHORTEST - 1)
        for at in range(self._start - self._late):
            self._insert(at)

    def compress(self, data: Buffer) -> bytes:
        """Add bytes, and return compressed ones."""
        self._run(memoryview(data), last=False)
        return self._writer.take()

    def flush(self) -> bytes:
        """End the stream, and return the rest of it."""
        self._run(memoryview(b""), last=True)
        if self._pending:
            self._symbols.append(self._window[self._start - 1])
        self._flush(last=True)
        return self._writer.take()

    def end_block(self) -> tuple[bytes, Bits]:
        """End a block, after which nothing more is compressed; return whole bytes, and the bits behind them."""
        self._run(memoryview(b""), last=True)
        if self._pending:
            self._symbols.append(self._window[self._start - 1])
        if self._symbols:
            self._flush(last=False)
        return self._writer.take_all()

    def _run(self, data: memoryview, *, last: bool) -> None:
        at, step = 0, self._step_lazy if self._lazy else self._step_greedy
        while True:
            if self._ahead < _AHEAD:
                at = self._fill(data, at)
                if self._ahead < (1 if last else _AHEAD):
                    return
            step()

    def _fill(self, data: memoryview, at: int) -> int:
        while True:
            room = 2 * _WINDOW - self._ahead - self._start
            if self._start >= _WINDOW + _FARTHEST:
                self._slide()
                room += _WINDOW
            count = min(room, data.nbytes - at)
            end = self._start + self._ahead
            self._window[end : end + count] = data[at : at + count]
            at += count
            self._ahead += count
            while self._late and self._ahead + self._late >= _SHORTEST:
                self._insert(self._start - self._late)
                self._late -= 1
            if self._ahead >= _AHEAD or at == data.nbytes:
                return at

    def _slide(self) -> None:
        self._window[:_WINDOW] = self._window[_WINDOW : 2 * _WINDOW]
        self._start -= _WINDOW
        self._match -= _WINDOW
        self._block -= _WINDOW
        self._heads = [place - _WINDOW if place > _WINDOW else 0 for place in self._heads]
        self._chain = [place - _WINDOW if place > _WINDOW else 0 for place in self._chain]

    def _insert(self, at: int) -> int:
        """Add the three bytes at a place to the hash table, and return the last place with the same hash."""
        window, shift = self._window, self._shift
        value = (window[at] << 2 * shift ^ window[at + 1] << shift ^ window[at + 2]) & self._mask
        head = self._heads[value]
        self._chain[at & _WINDOW - 1] = head
        self._heads[value] = at
        return head

    def _search(self, place: int) -> int:
        """Find a match longer than ``_previous``, remember where it is, and return its length."""
        window, start, best = self._window, self._start, self._previous
        chain = self._effort.chain >> 2 if best >= self._effort.good else self._effort.chain
        nice = min(self._effort.nice, self._ahead)
        limit = max(0, start - _FARTHEST)
        first, end = window[start : start + 2], window[start + best - 1 : start + best + 1]
        while True:
            if window[place + best - 1 : place + best + 1] == end and window[place : place + 2] == first:
                length = self._common(place, start)
                if length > best:
                    self._match, best = place, length
                    if length >= nice:
                        break
                    end = window[start + best - 1 : start + best + 1]
            place = self._chain[place & _WINDOW - 1]
            chain -= 1
            if place <= limit or not chain:
                break
        return min(best, self._ahead)

    def _common(self, one: int, two: int) -> int:
        a, b = self._window[one : one + _LONGEST], self._window[two : two + _LONGEST]
        if a == b:
            return _LONGEST
        low, high = 0, _LONGEST
        while high - low > 1:
            middle = (low + high) // 2
            if a[:middle] == b[:middle]:
                low = middle
            else:
                high = middle
        return low

    def _step_greedy(self) -> None:
        head = self._insert(self._start) if self._ahead >= _SHORTEST else 0
        length = 0
        if head and self._start - head <= _FARTHEST:
            length = self._search(head)
        if length >= _SHORTEST:
            self._symbols.append(length | self._start - self._match << 9)
            self._ahead -= length
            if length <= self._effort.lazy and self._ahead >= _SHORTEST:
                for at in range(self._start + 1, self._start + length):
                    self._insert(at)
            self._start += length
        else:
            self._symbols.append(self._window[self._start])
            self._start += 1
            self._ahead -= 1
        if len(self._symbols) == self._most_symbols:
            self._flush(last=False)

    def _step_lazy(self) -> None:
        head = self._insert(self._start) if self._ahead >= _SHORTEST else 0
        self._previous, before, length = self._length, self._match, _SHORTEST - 1
        if head and self._previous < self._effort.lazy and self._start - head <= _FARTHEST:
            length = self._search(head)
            if length == _SHORTEST and self._start - self._match > _TOO_FAR:
                length = _SHORTEST - 1
        if self._previous >= _SHORTEST and length <= self._previous:
            self._symbols.append(self._previous | self._start - 1 - before << 9)
            last = self._start + self._ahead - _SHORTEST
            self._ahead -= self._previous - 1
            for at in range(self._start + 1, min(self._start + self._previous - 2, last) + 1):
                self._insert(at)
            self._start += self._previous - 1
            self._pending, self._length = False, _SHORTEST - 1
        else:
            if self._pending:
                self._symbols.append(self._window[self._start - 1])
            full = len(self._symbols) == self._most_symbols
            if self._pending and full:
                self._flush(last=False)
            self._pending, self._length = True, length
            self._start += 1
            self._ahead -= 1
            return
        if len(self._symbols) == self._most_symbols:
            self._flush(last=False)

    def _flush(self, *, last: bool) -> None:
        raw = bytes(self._window[self._block : self._start]) if self._block >= 0 else None
        self._writer.block(self._symbols, raw, self._start - self._block, last=last)
        self._block = self._start
        self._symbols = []
