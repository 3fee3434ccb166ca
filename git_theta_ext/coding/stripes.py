"""Stripes: the elements of a chunk with similar predicted exponents, which have their own code.

Low bytes that look random are split off. The rest becomes symbols of 1, 2, 4 or 8 bits. They are packed into bytes
because no Huffman code takes less than one bit per byte. The largest symbol means that an element does not fit; the
excess over it is stored in planes of bytes.

Most operations work on all stripes at once. Stripes are so small that two threads that processed one stripe after
another would mostly wait for each other at the interpreter lock.
"""

from __future__ import annotations

from itertools import accumulate
from typing import TYPE_CHECKING, Any

from git_theta_ext.coding.arrays import as_integers, byte_plane, join_planes, scratch
from git_theta_ext.errors import CorruptError
from git_theta_ext.records import dataclass, replace

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from typing_extensions import Buffer

LAST_KEY = 255
SYMBOL_BITS = (1, 2, 4, 8)


@dataclass(frozen=True, slots=True)
class Stripe:
    """How the elements of some neighbouring keys are coded.

    Attributes:
        last: The highest key of the stripe. Its keys start after the last one of the previous stripe.
        low: Number of low bytes that are split off each element.
        bits: Bits of a symbol.
        wide: Bytes of an excess.
        excesses: Number of elements that do not fit a symbol.
    """

    last: int
    low: int
    bits: int
    wide: int = 0
    excesses: int = 0

    @property
    def top(self) -> int:
        """The symbol of an element that does not fit."""
        return (1 << self.bits) - 1

    def sizes(self, count: int) -> list[int]:
        """Return the size in bytes of each plane of ``count`` elements."""
        return [count] * self.low + [-(-count * self.bits // 8)] + [self.excesses] * self.wide


def group(keys: Any, stripes: Sequence[Stripe]) -> tuple[Any, list[slice]]:
    """Return the order that sorts elements by key, and the slice of each stripe in it.

    The order is None for a single stripe, whose elements are not reordered.
    """
    if len(stripes) == 1:
        return None, [slice(0, keys.size)]
    import numpy as np

    order = np.argsort(keys, kind="stable")
    lasts = np.array([stripe.last for stripe in stripes], np.uint8)
    return order, _slices(np.searchsorted(keys, lasts, side="right", sorter=order).tolist())


def encode_stripes(
    stripes: Sequence[Stripe], parts: Sequence[slice], missed: Any
) -> tuple[list[Stripe], list[memoryview]]:
    """Return the stripes with their excesses counted, and the planes of all stripes.

    Args:
        stripes: The stripes to encode.
        parts: The slice of each stripe in ``missed``.
        missed: The elements of all stripes; overwritten.
    """
    import numpy as np

    lows = [byte_plane(missed, 8 * i) for i in range(max(stripe.low for stripe in stripes))]
    for low, part in _runs([stripe.low for stripe in stripes], parts):
        if low:
            np.right_shift(missed[part], 8 * low, out=missed[part])
    tops = [stripe.top for stripe in stripes]
    clipped = scratch("clipped", missed.size, missed.dtype.str)
    for top, part in _runs(tops, parts):
        clipped[part] = top
    np.minimum(missed, clipped, out=clipped)  # four times as fast as with scalars
    symbols = clipped.astype(np.uint8)  # in new memory, because symbols of eight bits are a plane without packing
    positions, ends = _beyond(symbols, tops, parts)
    # Taking by position is ten times as fast as by mask.
    excess = np.take(missed, positions)
    excess -= _repeated(tops, ends, excess.dtype)
    wides = [(size.bit_length() + 7) // 8 for size in _largest(excess, ends)]
    rests = [byte_plane(excess, 8 * i) for i in range(max(wides))]
    packed = _pack_all(stripes, parts, symbols)
    counted, planes = [], []
    for at, (stripe, part, extra) in enumerate(zip(stripes, parts, _slices(ends), strict=True)):
        counted.append(replace(stripe, wide=wides[at], excesses=extra.stop - extra.start))
        planes += [plane[part] for plane in lows[: stripe.low]]
        planes += [packed[at], *(plane[extra] for plane in reversed(rests[: wides[at]]))]
    return counted, [plane.data for plane in planes]


def decode_stripes(
    stripes: Sequence[Stripe], parts: Sequence[slice], planes: Sequence[Sequence[Buffer]], out: Any
) -> None:
    """Write the elements of all stripes.

    Args:
        stripes: The stripes to decode.
        parts: The slice of each stripe in ``out``.
        planes: The planes of each stripe.
        out: An array of unsigned integers.

    Raises:
        CorruptError: The number of elements that do not fit a symbol differs from the one in the stripe's record.
    """
    import numpy as np

    symbols = scratch("symbols", out.size, "|u1")
    _unpack_all(stripes, parts, [some[stripe.low] for stripe, some in zip(stripes, planes, strict=True)], symbols)
    np.copyto(out, symbols)
    tops = [stripe.top for stripe in stripes]
    positions, ends = _beyond(symbols, tops, parts)
    extras = _slices(ends)
    if any(extra.stop - extra.start != stripe.excesses for stripe, extra in zip(stripes, extras, strict=True)):
        raise CorruptError("a residual has an unexpected number of large elements")
    excess = np.zeros(positions.size, out.dtype)
    for stripe, extra, some in zip(stripes, extras, planes, strict=True):
        if stripe.wide:
            join_planes(some[stripe.low + 1 :], excess[extra])
    excess += _repeated(tops, ends, out.dtype)
    out[positions] = excess
    for i in reversed(range(max(stripe.low for stripe in stripes))):
        for wider, part in _runs([int(stripe.low > i) for stripe in stripes], parts):
            if wider:
                np.left_shift(out[part], 8, out=out[part])
        for stripe, part, some in zip(stripes, parts, planes, strict=True):
            if stripe.low > i:
                np.bitwise_or(out[part], as_integers(some[i], 1), out=out[part])


def _runs(values: Sequence[int], parts: Sequence[slice]) -> Iterator[tuple[int, slice]]:
    """Yield each value with the slice that it applies to; neighbours with equal values share one."""
    start = 0
    for at, (value, part) in enumerate(zip(values, parts, strict=True), 1):
        if at == len(values) or values[at] != value:
            yield value, slice(start, part.stop)
            start = part.stop


def _beyond(symbols: Any, tops: Sequence[int], parts: Sequence[slice]) -> tuple[Any, list[int]]:
    """Return the positions of elements that do not fit a symbol, and the end of each stripe among them."""
    import numpy as np

    beyond = scratch("beyond", symbols.size, "|b1")
    for top, part in _runs(tops, parts):
        np.equal(symbols[part], top, out=beyond[part])
    positions = np.flatnonzero(beyond)
    return positions, np.searchsorted(positions, [part.stop for part in parts]).tolist()


def _slices(ends: Sequence[int]) -> list[slice]:
    return [slice(*pair) for pair in zip([0, *ends[:-1]], ends, strict=True)]


def _repeated(values: Sequence[int], ends: Sequence[int], kind: Any) -> Any:
    import numpy as np

    return np.repeat(np.array(values, kind), np.diff(ends, prepend=0))


def _largest(values: Any, ends: Sequence[int]) -> list[int]:
    """Return the largest value of each stripe, 0 if it has none."""
    import numpy as np

    largest = [0] * len(ends)
    some = [(at, part.start) for at, part in enumerate(_slices(ends)) if part.start < part.stop]
    if some:
        maxima = np.maximum.reduceat(values, [start for _, start in some])
        for (at, _), value in zip(some, maxima.tolist(), strict=True):
            largest[at] = value
    return largest


def _pack_all(stripes: Sequence[Stripe], parts: Sequence[slice], symbols: Any) -> list[Any]:
    """Return the packed symbols of each stripe. Stripes with equally wide symbols are packed together."""
    import numpy as np

    packed = [symbols[part] for part in parts]
    for bits in {stripe.bits for stripe in stripes} - {8}:
        some = [at for at, stripe in enumerate(stripes) if stripe.bits == bits]
        rooms = _rooms([parts[at].stop - parts[at].start for at in some], bits)
        spaced = np.zeros(rooms[-1].stop * 8 // bits, np.uint8)
        for at, room in zip(some, rooms, strict=True):
            start = room.start * 8 // bits
            spaced[start : start + packed[at].size] = packed[at]
        together = pack(spaced, bits)
        for at, room in zip(some, rooms, strict=True):
            packed[at] = together[room]
    return packed


def _unpack_all(stripes: Sequence[Stripe], parts: Sequence[slice], planes: Sequence[Buffer], out: Any) -> None:
    """Write the symbols of all stripes. Stripes with equally wide symbols are unpacked together."""
    import numpy as np

    for bits in {stripe.bits for stripe in stripes}:
        some = [at for at, stripe in enumerate(stripes) if stripe.bits == bits]
        unpacked = [as_integers(planes[at], 1) for at in some]
        if bits < 8:  # noqa: PLR2004 - bits of a byte
            sizes = np.cumsum([plane.size * 8 // bits for plane in unpacked])[:-1]
            together = np.concatenate(unpacked)
            unpacked = np.split(unpack(together, bits, together.size * 8 // bits), sizes)
        for at, symbols in zip(some, unpacked, strict=True):
            out[parts[at]] = symbols[: parts[at].stop - parts[at].start]


def _rooms(counts: Sequence[int], bits: int) -> list[slice]:
    """Return the slice of each stripe's symbols when stripes are packed one after another, each in whole bytes."""
    ends = list(accumulate(-(-count * bits // 8) for count in counts))
    return _slices(ends)


def pack(symbols: Any, bits: int) -> Any:
    """Pack symbols of 1, 2, 4 or 8 bits, given one per byte, into bytes; the first symbol is in the lowest bits."""
    import numpy as np

    if bits == 1:
        return np.packbits(symbols, bitorder="little")
    per_byte = 8 // bits
    if symbols.size % per_byte:
        symbols = np.concatenate([symbols, np.zeros(-symbols.size % per_byte, np.uint8)])
    folded = symbols.view(f"<u{per_byte}")
    # Bytes halve their distance to the lowest byte, then bits do; see unpack.
    if per_byte == 4:  # noqa: PLR2004 - symbols of two bits
        folded = folded | (folded >> 6)
        return ((folded & 0xF) | ((folded >> 12) & 0xF0)).astype(np.uint8)
    return (folded | (folded >> 4)).astype(np.uint8) if per_byte > 1 else symbols


def unpack(packed: Any, bits: int, count: int) -> Any:
    """Return the first ``count`` symbols that ``pack`` packed, one per byte."""
    import numpy as np

    if bits == 1:
        return np.unpackbits(packed, count=count, bitorder="little")
    per_byte = 8 // bits
    spread = packed.astype(f"<u{per_byte}")
    if per_byte == 4:  # noqa: PLR2004 - symbols of two bits
        spread = (spread & 0xF) | ((spread & 0xF0) << 12)
        spread = (spread | (spread << 6)) & 0x03030303
    elif per_byte > 1:
        spread = (spread | (spread << 4)) & 0x0F0F
    return spread.view(np.uint8)[:count]
