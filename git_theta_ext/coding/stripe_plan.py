"""Plan stripes: estimate from a sample which exponents form a stripe, and how many bits its symbols have."""

from __future__ import annotations

from array import array
from functools import cache
from math import log2
from typing import Any

from git_theta_ext.coding.stripes import LAST_KEY, SYMBOL_BITS, Stripe

_MOST = 32
_LEAST_BITS = 1 << 14  # a stripe's own tables pay from about 2 KiB on
_SAMPLE, _SMALL_SAMPLE, _BLOCK_SAMPLE = 1 << 14, 1 << 12, 1 << 15
"""Elements in a sample: of numbers, of numbers of a small tensor, and of bytes of blocks, whose positions differ more
than exponents do."""
_SMALL = 1 << 16
"""Elements up to which the smaller sample makes encoding faster by a tenth, and payloads no larger on average."""
_BYTE_VALUES = 256
_TOPS = [(1 << bits) - 1 for bits in SYMBOL_BITS]


def arrangement_limits() -> tuple[array[float], float, float]:
    """Return what the compiled module needs to plan: n log2(n), the bits of a stripe, and the number of stripes."""
    return _information(), _LEAST_BITS, _MOST


def sample_size(elements: int, *, blocks: bool) -> int:
    """Return about how many elements of a chunk are in the sample that its stripes are planned by.

    Args:
        elements: Number of elements of the chunk.
        blocks: Whether these are bytes of blocks.
    """
    if blocks:
        return _BLOCK_SAMPLE
    return _SMALL_SAMPLE if elements <= _SMALL else _SAMPLE


def plan(missed: Any, keys: Any, sampled: int) -> list[Stripe]:
    """Choose stripes, and how to code each, from a sample.

    Args:
        missed: Unsigned integers, mostly small; at least one.
        keys: A byte for each integer. The size of the integer depends on it.
        sampled: About how many elements are in the sample; see ``sample_size``.
    """
    import numpy as np

    step = (missed.size // sampled) | 1
    sample, groups = np.ascontiguousarray(missed[::step]), keys[::step]
    used = np.flatnonzero(np.bincount(groups))
    ranks = np.zeros(LAST_KEY + 1, np.uint16)
    ranks[used] = np.arange(used.size) * _BYTE_VALUES
    rows, most = ranks[groups], np.full(sample.size, LAST_KEY, sample.dtype)
    # One histogram for each number of low bytes that are split off and each key.
    histograms = []
    for low in range(max(1, missed.itemsize - 1)):
        values = np.minimum(sample >> (8 * low) if low else sample, most).astype(np.uint16)
        histograms.append(np.bincount(np.bitwise_or(values, rows, out=values), minlength=used.size * _BYTE_VALUES))
    counts = np.stack(histograms).reshape(len(histograms), used.size, _BYTE_VALUES)
    bounds = _bounds(_costs(counts, missed.itemsize).min(axis=(0, 1)) * step)
    costs = _costs(np.add.reduceat(counts, [0, *bounds[:-1]], axis=1), missed.itemsize)
    best = costs.reshape(-1, len(bounds)).argmin(axis=0)
    lasts = [*(int(used[bound - 1]) for bound in bounds[:-1]), LAST_KEY]
    choices = (divmod(int(choice), len(SYMBOL_BITS)) for choice in best)
    return [Stripe(last, low, SYMBOL_BITS[size]) for last, (low, size) in zip(lasts, choices, strict=True)]


def _bounds(bits: Any) -> list[int]:
    """Return the ends of stripes as indices of ``bits``: a stripe ends when it is large enough for its own code."""
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
    """Estimate the bits that coding elements of this distribution takes.

    Args:
        counts: Counts of the values 0 to 255 or more, by number of low bytes that are split off and group.
        width: Size of an element in bytes.

    Returns:
        Bits by number of low bytes that are split off, index in ``SYMBOL_BITS`` and group.
    """
    import numpy as np

    # Counts of the byte 0, and for each number of bits of the bytes that are not below the largest symbol.
    bands = np.add.reduceat(counts, [0, *_TOPS], axis=-1)
    excesses = np.cumsum(bands[..., :0:-1], axis=-1)[..., ::-1]
    total = (bands[..., 0] + excesses[..., 0])[..., None]
    low = 8 * np.arange(len(counts))[:, None] * total[..., 0]
    # Splitting off symbols does not change the entropy. What changes is how close a Huffman code comes to it.
    ideal = _log_sum(total[..., 0]) - _log_sum(counts).sum(axis=-1) + counts[..., LAST_KEY] * 8 * (width - 1) + low
    shares = [counts[..., :1] / np.maximum(total, 1)]  # of zeros, and of bytes of two, four and eight zeros
    for _ in SYMBOL_BITS[1:]:
        shares.append(shares[-1] * shares[-1])
    share = np.concatenate(shares[::-1], axis=-1)
    costs = ideal[..., None] + total * np.array(SYMBOL_BITS) / 8 * _loss(share)
    costs += excesses * _loss(counts[..., _TOPS] / np.maximum(excesses, 1))
    return np.moveaxis(costs, -1, 1)


def _log_sum(counts: Any) -> Any:
    import numpy as np

    return np.asarray(_information())[counts]


@cache
def _information() -> array[float]:
    """Return n log2(n) for each number of elements that a sample can have, without numpy, whose import takes longer."""
    return array("d", [0.0, *(count * log2(count) for count in range(1, 2 * _BLOCK_SAMPLE))])


def _loss(share: Any) -> Any:
    """Return the bits per byte above the entropy, given the share of the most frequent byte; fitted to measurements.

    They grow faster than Huffman's bound, because frequent bytes form matches, which cost more than literals.
    """
    import numpy as np

    return 0.03 + 1.4 * np.maximum(share - 0.4, 0)
