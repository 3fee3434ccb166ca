"""Stripes: the elements of a chunk that were predicted to have similar exponents, with a code of their own.

Low octets that look random are split off. What is above becomes symbols of 1, 2, 4 or 8 bits, packed into octets since
no Huffman code takes less than one bit an octet. The largest symbol says that an element did not fit; by how much
follows as planes of octets.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from git_theta_ext.errors import CorruptError

from ._planes import as_integers, code_symbols, join_octets, octet

if TYPE_CHECKING:
    from collections.abc import Sequence

    from typing_extensions import Buffer

    from ._planes import Coded

LAST_KEY = 255
SYMBOL_BITS = (1, 2, 4, 8)

_MOST = 32
_LEAST_BITS = 1 << 14  # a stripe's own tables pay from about 2 KiB on
_SAMPLE = 1 << 15
_OCTET_VALUES = 256


@dataclass(frozen=True, slots=True)
class Stripe:
    """How the elements of some neighbouring keys are coded.

    Attributes:
        last: The highest key in it; the first is the one after the stripe before.
        low: Octets that are split off each element.
        bits: Of a symbol.
        wide: Octets of an excess.
        excesses: Elements that do not fit a symbol.
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
        """Return the octets of each plane of ``count`` elements."""
        return [count] * self.low + [-(-count * self.bits // 8)] + [self.excesses] * self.wide


def group(keys: Any, stripes: Sequence[Stripe]) -> tuple[Any, list[slice]]:
    """Return the order that sorts elements by key, and where in it each stripe is.

    With a single stripe elements stay where they are, which the order None stands for.
    """
    import numpy as np

    if len(stripes) == 1:
        return None, [slice(0, keys.size)]
    counts = np.cumsum(np.bincount(keys, minlength=LAST_KEY + 1))
    ends = [int(counts[stripe.last]) for stripe in stripes]
    return np.argsort(keys, kind="stable"), [slice(*pair) for pair in zip([0, *ends[:-1]], ends, strict=True)]


def plan(missed: Any, keys: Any) -> list[Stripe]:
    """Choose stripes, and how to code each, from a sample.

    Args:
        missed: Unsigned integers, mostly small; at least one.
        keys: An octet for each of them, that its size depends on.
    """
    import numpy as np

    step = (missed.size // _SAMPLE) | 1
    sample, groups = missed[::step], keys[::step]
    used = np.flatnonzero(np.bincount(groups))
    ranks = np.zeros(LAST_KEY + 1, np.int64)
    ranks[used] = np.arange(used.size)
    rows = ranks[groups] * _OCTET_VALUES
    # One histogram for each number of low octets split off and each key.
    counts = np.stack(
        [
            np.bincount(
                rows + np.minimum(sample >> (8 * low), LAST_KEY).astype(np.int64),
                minlength=used.size * _OCTET_VALUES,
            ).reshape(-1, _OCTET_VALUES)
            for low in range(max(1, missed.itemsize - 1))
        ]
    )
    bounds = _bounds(_costs(counts, missed.itemsize).min(axis=(0, 1)) * step)
    costs = _costs(np.add.reduceat(counts, [0, *bounds[:-1]], axis=1), missed.itemsize)
    best = costs.reshape(-1, len(bounds)).argmin(axis=0)
    lasts = [*(int(used[bound - 1]) for bound in bounds[:-1]), LAST_KEY]
    choices = (divmod(int(choice), len(SYMBOL_BITS)) for choice in best)
    return [Stripe(last, low, SYMBOL_BITS[size]) for last, (low, size) in zip(lasts, choices, strict=True)]


def _bounds(bits: Any) -> list[int]:
    """Return where stripes end, in places of ``bits``: each is closed when it is worth a code of its own."""
    least, filled, bounds = max(_LEAST_BITS, float(bits.sum()) / _MOST), 0.0, []
    for end, more in enumerate(bits.tolist(), 1):
        filled += more
        if filled >= least:
            bounds.append(end)
            filled = 0.0
    if not bounds or bounds[-1] < len(bits):
        bounds.append(len(bits))
    return bounds


def _costs(counts: Any, width: int) -> Any:
    """Estimate the bits of coding elements that are distributed like this.

    Args:
        counts: Of the octets 0 to 255 or more, by low octets split off and group.
        width: Octets of an element.

    Returns:
        By low octets split off, place in ``SYMBOL_BITS`` and group.
    """
    import numpy as np

    total = counts.sum(axis=-1)
    low = 8 * np.arange(len(counts))[:, None] * total
    # Splitting off symbols leaves the entropy as it is. What differs is how near a Huffman code comes to it.
    ideal = _log_sum(total) - _log_sum(counts).sum(axis=-1) + counts[..., LAST_KEY] * 8 * (width - 1) + low
    costs = []
    for bits in SYMBOL_BITS:
        top = (1 << bits) - 1
        excesses = counts[..., top:].sum(axis=-1)
        share = (counts[..., 0] / np.maximum(total, 1)) ** (8 // bits)
        costs.append(
            ideal + total * bits / 8 * _loss(share) + excesses * _loss(counts[..., top] / np.maximum(excesses, 1))
        )
    return np.stack(costs, axis=1)


def _log_sum(counts: Any) -> Any:
    import numpy as np

    return counts * np.log2(np.maximum(counts, 1))


def _loss(share: Any) -> Any:
    """Return the bits an octet over its entropy, given the share of the most frequent one; fitted to measurements.

    It grows faster than by Huffman's bound alone, as frequent octets make matches that are dearer than literals.
    """
    import numpy as np

    return 0.03 + 1.4 * np.maximum(share - 0.4, 0)


def encode_stripe(stripe: Stripe, missed: Any) -> tuple[Stripe, list[Coded]]:
    """Return the stripe with its excesses counted, and its planes."""
    import numpy as np

    planes = [octet(missed, 8 * i) for i in range(stripe.low)]
    if stripe.low:
        missed = missed >> (8 * stripe.low)
    symbols = np.minimum(missed, stripe.top).astype(np.uint8)
    # Taking by place is ten times as fast as by mask.
    excess = np.take(missed, np.flatnonzero(symbols == stripe.top))
    excess -= excess.dtype.type(stripe.top)
    wide = (int(excess.max()).bit_length() + 7) // 8 if excess.size else 0
    planes += [pack(symbols, stripe.bits), *(octet(excess, 8 * i) for i in reversed(range(wide)))]
    return replace(stripe, wide=wide, excesses=excess.size), [code_symbols(plane.data) for plane in planes]


def decode_stripe(stripe: Stripe, planes: Sequence[Buffer], out: Any) -> None:
    """Write the elements of a stripe, as many as ``out`` has.

    Raises:
        CorruptError: Not as many elements are too large for a symbol as the stripe says.
    """
    import numpy as np

    symbols = unpack(as_integers(planes[stripe.low], 1), stripe.bits, out.size)
    np.copyto(out, symbols)
    found = np.flatnonzero(symbols == stripe.top)
    if found.size != stripe.excesses:
        raise CorruptError("a residual with another number of large elements than it says")
    if stripe.wide:
        excess = np.empty(found.size, out.dtype)
        join_octets(planes[stripe.low + 1 :], excess)
        excess += out.dtype.type(stripe.top)
        out[found] = excess
    for plane in reversed(planes[: stripe.low]):
        np.left_shift(out, 8, out=out)
        np.bitwise_or(out, as_integers(plane, 1), out=out)


def pack(symbols: Any, bits: int) -> Any:
    """Pack symbols of 1, 2, 4 or 8 bits, one an octet, into octets; the first one lowest."""
    import numpy as np

    if bits == 1:
        return np.packbits(symbols, bitorder="little")
    per_octet = 8 // bits
    if symbols.size % per_octet:
        symbols = np.concatenate([symbols, np.zeros(-symbols.size % per_octet, np.uint8)])
    folded = symbols.view(f"<u{per_octet}")
    # Octets halve their distance to the lowest one, then bits; see unpack.
    if per_octet == 4:  # noqa: PLR2004 - symbols of two bits
        folded = folded | (folded >> 6)
        return ((folded & 0xF) | ((folded >> 12) & 0xF0)).astype(np.uint8)
    return (folded | (folded >> 4)).astype(np.uint8) if per_octet > 1 else symbols


def unpack(packed: Any, bits: int, count: int) -> Any:
    """Return the first ``count`` symbols that ``pack`` packed, one an octet."""
    import numpy as np

    if bits == 1:
        return np.unpackbits(packed, count=count, bitorder="little")
    per_octet = 8 // bits
    spread = packed.astype(f"<u{per_octet}")
    if per_octet == 4:  # noqa: PLR2004 - symbols of two bits
        spread = (spread & 0xF) | ((spread & 0xF0) << 12)
        spread = (spread | (spread << 6)) & 0x03030303
    elif per_octet > 1:
        spread = (spread | (spread << 4)) & 0x0F0F
    return spread.view(np.uint8)[:count]
