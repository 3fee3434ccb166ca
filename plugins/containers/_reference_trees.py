"""Write the blocks of a deflate stream (RFC 1951) with the codes that zlib chooses for them.

A block is stored, or coded with fixed codes or with Huffman codes of its own, whichever is shortest.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, NamedTuple

from ._reference_codes import Codes, build_codes, canonical_codes

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

END_BLOCK = 256
_LITERALS, _DISTANCES, _LENGTHS = 286, 30, 19  # symbols of the three alphabets
_LONGEST, _LONGEST_OF_LENGTHS = 15, 7
_LENGTH_BITS = (*([0] * 8), *(n // 4 for n in range(4, 24)), 0)
_DISTANCE_BITS = (0, 0, *(n // 2 for n in range(28)))
_ORDER = (16, 17, 18, 0, 8, 7, 9, 6, 10, 5, 11, 4, 12, 3, 13, 2, 14, 1, 15)
_REPEAT, _ZEROS, _MANY_ZEROS = 16, 17, 18
_FEWEST_LENGTHS, _MOST_ZEROS = 3, 138
_SHORT_ZEROS = 10
_STORED, _FIXED, _DYNAMIC = 0, 1, 2
_PENDING = 1 << 10  # bits that are gathered before bytes are made of them


def _starts(bits: Sequence[int], first: int) -> list[int]:
    starts = [first]
    for count in bits[:-1]:
        starts.append(starts[-1] + (1 << count))
    return starts


_LENGTH_STARTS = [*_starts(_LENGTH_BITS[:-1], 3), 258]
_DISTANCE_STARTS = _starts(_DISTANCE_BITS, 1)
LENGTH_CODES = [0] * 259
for _code, _start in enumerate(_LENGTH_STARTS):
    LENGTH_CODES[_start:] = [_code] * (259 - _start)
_DISTANCE_CODES = [0] * 32769
for _code, _start in enumerate(_DISTANCE_STARTS):
    _DISTANCE_CODES[_start:] = [_code] * (32769 - _start)


_FIXED_LITERALS = canonical_codes([8] * 144 + [9] * 112 + [7] * 24 + [8] * 8, 287)
_FIXED_DISTANCES = canonical_codes([5] * 30, 29)


def _runs(lengths: Sequence[int]) -> Iterator[tuple[int, int, int]]:
    """Yield the symbols that describe code lengths: each with its extra bits and their value."""
    at = 0
    before = -1
    while at < len(lengths):
        length = lengths[at]
        most = _MOST_ZEROS if not length else 6 if length == before else 7
        count = 1
        while count < most and at + count < len(lengths) and lengths[at + count] == length:
            count += 1
        fewest = 3 if not length or length == before else 4
        if count < fewest:
            yield from [(length, 0, 0)] * count
        elif length:
            if length != before:
                yield length, 0, 0
                yield _REPEAT, 2, count - 1 - _FEWEST_LENGTHS
            else:
                yield _REPEAT, 2, count - _FEWEST_LENGTHS
        elif count <= _SHORT_ZEROS:
            yield _ZEROS, 3, count - _FEWEST_LENGTHS
        else:
            yield _MANY_ZEROS, 7, count - _SHORT_ZEROS - 1
        at += count
        before = length


class Bits(NamedTuple):
    """The bits of an incomplete byte, the first one lowest, and how many they are."""

    value: int
    number: int


@dataclass
class BlockWriter:
    """Writes blocks of bits."""

    _bits: int = 0
    _count: int = 0
    _bytes: bytearray = field(default_factory=bytearray)

    def take(self) -> bytes:
        """Return the whole bytes that are ready."""
        made = bytes(self._bytes)
        self._bytes.clear()
        return made

    def take_all(self) -> tuple[bytes, Bits]:
        """Return the whole bytes, and the bits behind them."""
        whole, rest = divmod(self._count, 8)
        made = self.take() + (self._bits & ((1 << 8 * whole) - 1)).to_bytes(whole, "little")
        return made, Bits(self._bits >> 8 * whole, rest)

    def block(self, symbols: Sequence[int], raw: bytes | None, size: int, *, last: bool) -> None:
        """Write a block.

        Args:
            symbols: Literals, and matches as ``length | distance << 9``.
            raw: The bytes of the block; None if they are no longer known.
            size: Number of the bytes.
            last: Whether this is the last block.
        """
        literals, distances = [0] * _LITERALS, [0] * _DISTANCES
        literals[END_BLOCK] = 1
        for symbol in symbols:
            if symbol < END_BLOCK:
                literals[symbol] += 1
            else:
                literals[257 + LENGTH_CODES[symbol & 511]] += 1
                distances[_DISTANCE_CODES[symbol >> 9]] += 1
        own = build_codes(literals, _LONGEST), build_codes(distances, _LONGEST)
        header = [run for codes in own for run in _runs(codes.lengths[: codes.highest + 1])]
        frequencies = [0] * _LENGTHS
        for symbol, _, _ in header:
            frequencies[symbol] += 1
        described = build_codes(frequencies, _LONGEST_OF_LENGTHS)
        listed = next((n for n in range(18, 2, -1) if described.lengths[_ORDER[n]]), 2) + 1
        extra = sum(n * b for n, b in zip(literals[257:], _LENGTH_BITS, strict=True))
        extra += sum(n * b for n, b in zip(distances, _DISTANCE_BITS, strict=True))
        fixed = extra + _total(literals, _FIXED_LITERALS) + _total(distances, _FIXED_DISTANCES)
        dynamic = extra + _total(literals, own[0]) + _total(distances, own[1]) + 3 * listed + 14
        dynamic += sum(described.lengths[symbol] + bits for symbol, bits, _ in header)
        shortest = min((fixed + 10) >> 3, (dynamic + 10) >> 3)
        if raw is not None and size + 4 <= shortest:
            self._stored(raw, last=last)
        elif (fixed + 10) >> 3 == shortest:
            self._put(_FIXED << 1 | last, 3)
            self._symbols(symbols, _FIXED_LITERALS, _FIXED_DISTANCES)
        else:
            self._put(_DYNAMIC << 1 | last, 3)
            self._describe(own, header, described, listed)
            self._symbols(symbols, *own)
        if last:
            self._align()

    def _stored(self, raw: bytes, *, last: bool) -> None:
        self._put(_STORED << 1 | last, 3)
        self._align()
        self._bytes += len(raw).to_bytes(2, "little") + (len(raw) ^ 0xFFFF).to_bytes(2, "little") + raw

    def _describe(
        self, own: tuple[Codes, Codes], header: Sequence[tuple[int, int, int]], described: Codes, listed: int
    ) -> None:
        self._put(own[0].highest - 256, 5)
        self._put(own[1].highest, 5)
        self._put(listed - 4, 4)
        for symbol in _ORDER[:listed]:
            self._put(described.lengths[symbol], 3)
        for symbol, bits, value in header:
            self._put(described.codes[symbol], described.lengths[symbol])
            self._put(value, bits)

    def _symbols(self, symbols: Sequence[int], literals: Codes, distances: Codes) -> None:
        for symbol in symbols:
            if symbol < END_BLOCK:
                self._put(literals.codes[symbol], literals.lengths[symbol])
                continue
            length, distance = symbol & 511, symbol >> 9
            code = LENGTH_CODES[length]
            self._put(literals.codes[257 + code], literals.lengths[257 + code])
            self._put(length - _LENGTH_STARTS[code], _LENGTH_BITS[code])
            code = _DISTANCE_CODES[distance]
            self._put(distances.codes[code], distances.lengths[code])
            self._put(distance - _DISTANCE_STARTS[code], _DISTANCE_BITS[code])
        self._put(literals.codes[END_BLOCK], literals.lengths[END_BLOCK])

    def _put(self, value: int, count: int) -> None:
        self._bits |= value << self._count
        self._count += count
        if self._count >= _PENDING:
            whole = self._count >> 3
            self._bytes += (self._bits & ((1 << 8 * whole) - 1)).to_bytes(whole, "little")
            self._bits >>= 8 * whole
            self._count &= 7

    def _align(self) -> None:
        self._bytes += self._bits.to_bytes((self._count + 7) >> 3, "little")
        self._bits = self._count = 0


def _total(frequencies: Sequence[int], codes: Codes) -> int:
    return sum(count * length for count, length in zip(frequencies, codes.lengths, strict=False))
