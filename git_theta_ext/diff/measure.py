"""Measure how far apart two versions of a tensor are, in one pass and in bounded memory."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

from git_theta_ext.diff.distance import Distance, combined
from git_theta_ext.model.floats import to_float

if TYPE_CHECKING:
    from collections.abc import Iterable

    from numpy.typing import NDArray
    from typing_extensions import Buffer

    from git_theta_ext.model.dtypes import Dtype

_UNSIGNED = {8: "u1", 16: "<u2", 32: "<u4", 64: "<u8"}
# Squares of values within these bounds neither overflow nor vanish in float64.
_SAFE = (1e-140, 1e140)


def measure(old: Iterable[Buffer], new: Iterable[Buffer], dtype: Dtype) -> Distance:
    """Measure the distance between two versions of a tensor.

    Args:
        old: The little-endian bytes, in chunks of whole elements and whole bytes.
        new: The same, in chunks of the same sizes. A chunk is not used after the next one is requested.
        dtype: The element type of both.

    Raises:
        ValueError: The chunks of the two tensors have different sizes.
    """
    pieces: list[Distance] = []
    for old_piece, new_piece in zip(old, new, strict=True):
        if memoryview(old_piece).nbytes != memoryview(new_piece).nbytes:
            raise ValueError("the chunks of the two tensors have different sizes")
        pieces.append(_piece(old_piece, new_piece, dtype))
    empty = (0.0, 0.0, 0.0, 0.0) if dtype.arithmetic else ()
    return combined(pieces) or Distance(0, 0, *empty)


def _piece(old: Buffer, new: Buffer, dtype: Dtype) -> Distance:
    import numpy as np

    elements = memoryview(old).nbytes * 8 // dtype.bits
    changed = _changed(old, new, dtype.bits)
    if not dtype.arithmetic:
        return Distance(elements, changed)
    before = to_float(old, dtype).astype(np.float64)
    after = to_float(new, dtype).astype(np.float64)
    with np.errstate(over="ignore", invalid="ignore"):
        difference = np.subtract(after, before, out=np.zeros_like(after), where=after != before)
        flips = int(np.count_nonzero(np.sign(before) * np.sign(after) < 0))
    return Distance(
        elements,
        changed,
        _norm(difference),
        _norm(before),
        _norm(after),
        _peak(difference),
        flips,
        int(np.count_nonzero(np.isnan(before))),
        int(np.count_nonzero(np.isnan(after))),
        int(np.count_nonzero(np.isinf(before))),
        int(np.count_nonzero(np.isinf(after))),
    )


def _peak(values: NDArray[Any]) -> float:
    import numpy as np

    return float(np.abs(values).max(initial=0.0))


def _norm(values: NDArray[Any]) -> float:
    import numpy as np

    peak = _peak(values)
    if not math.isfinite(peak) or peak == 0:
        return peak
    if _SAFE[0] < peak < _SAFE[1]:
        return math.sqrt(float(np.dot(values, values)))
    return peak * math.sqrt(float(np.square(values / peak).sum()))


def _changed(old: Buffer, new: Buffer, bits: int) -> int:
    import numpy as np

    if bits in _UNSIGNED:
        kind = _UNSIGNED[bits]
        return int(np.count_nonzero(np.frombuffer(memoryview(old), kind) != np.frombuffer(memoryview(new), kind)))
    differs = np.frombuffer(memoryview(old), np.uint8) ^ np.frombuffer(memoryview(new), np.uint8)
    if bits % 8:
        return int(np.count_nonzero(np.unpackbits(differs, bitorder="little").reshape(-1, bits).any(axis=1)))
    return int(np.count_nonzero(differs.reshape(-1, bits // 8).any(axis=1)))
