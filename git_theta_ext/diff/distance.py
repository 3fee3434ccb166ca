"""Measure how far apart two versions of a tensor are, in one pass and in bounded memory."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from git_theta_ext.model.floats import to_float

if TYPE_CHECKING:
    from collections.abc import Iterable

    from numpy.typing import NDArray
    from typing_extensions import Buffer

    from git_theta_ext.model.dtypes import Dtype

_UNSIGNED = {8: "u1", 16: "<u2", 32: "<u4", 64: "<u8"}
# Squares of values within these bounds neither overflow nor vanish in float64.
_SAFE = (1e-140, 1e140)


@dataclass(frozen=True, slots=True)
class Distance:
    """The distance between two tensors of the same element type and shape.

    Attributes:
        elements: Number of elements.
        changed: Number of elements whose bits differ.
        relative: Norm of the difference over the norm of the old tensor, in float64. Infinite if the old tensor is
            all zero; infinite or NaN if an element of either tensor is. None for types without arithmetic.
        largest: Largest absolute difference between two elements, or two components of complex ones; None as above.
        nonfinite_old: Number of NaN and infinite values in the old tensor.
        nonfinite_new: Number of NaN and infinite values in the new tensor.
    """

    elements: int
    changed: int
    relative: float | None = None
    largest: float | None = None
    nonfinite_old: int = 0
    nonfinite_new: int = 0

    @property
    def share(self) -> float:
        """Share of the elements whose bits differ, 0 to 1."""
        return self.changed / self.elements if self.elements else 0.0


def measure(old: Iterable[Buffer], new: Iterable[Buffer], dtype: Dtype) -> Distance:
    """Measure the distance between two versions of a tensor.

    Args:
        old: The little-endian bytes, in chunks of whole elements and whole bytes.
        new: The same, in chunks of the same sizes. A chunk is not used after the next one is requested.
        dtype: The element type of both.

    Raises:
        ValueError: The chunks of the two tensors have different sizes.
    """
    elements = changed = nonfinite_old = nonfinite_new = 0
    distance = norm = largest = 0.0
    for old_piece, new_piece in zip(old, new, strict=True):
        if memoryview(old_piece).nbytes != memoryview(new_piece).nbytes:
            raise ValueError("the chunks of the two tensors have different sizes")
        elements += memoryview(old_piece).nbytes * 8 // dtype.bits
        here = _changed(old_piece, new_piece, dtype.bits)
        changed += here
        if not dtype.arithmetic:
            continue
        piece = _Piece.of(old_piece, new_piece if here else None, dtype)
        norm = math.hypot(norm, piece.norm)
        distance = math.hypot(distance, piece.distance)
        largest = _larger(largest, piece.largest)
        nonfinite_old += piece.nonfinite_old
        nonfinite_new += piece.nonfinite_new
    if not dtype.arithmetic:
        return Distance(elements, changed)
    return Distance(elements, changed, _ratio(distance, norm), largest, nonfinite_old, nonfinite_new)


@dataclass(frozen=True, slots=True)
class _Piece:
    norm: float
    distance: float
    largest: float
    nonfinite_old: int
    nonfinite_new: int

    @classmethod
    def of(cls, old: Buffer, new: Buffer | None, dtype: Dtype) -> _Piece:
        import numpy as np

        before = to_float(old, dtype).astype(np.float64)
        nonfinite_old = int(before.size - np.count_nonzero(np.isfinite(before)))
        if new is None:
            return cls(_norm(before), 0.0, 0.0, nonfinite_old, nonfinite_old)
        after = to_float(new, dtype).astype(np.float64)
        with np.errstate(over="ignore", invalid="ignore"):
            difference = np.subtract(after, before, out=np.zeros_like(after), where=after != before)
        nonfinite_new = int(after.size - np.count_nonzero(np.isfinite(after)))
        return cls(_norm(before), _norm(difference), _peak(difference), nonfinite_old, nonfinite_new)


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


def _larger(one: float, other: float) -> float:
    return math.nan if math.isnan(one) or math.isnan(other) else max(one, other)


def _ratio(distance: float, norm: float) -> float:
    if distance == 0:
        return 0.0
    return distance / norm if norm else distance * math.inf


def _changed(old: Buffer, new: Buffer, bits: int) -> int:
    import numpy as np

    if bits in _UNSIGNED:
        kind = _UNSIGNED[bits]
        return int(np.count_nonzero(np.frombuffer(memoryview(old), kind) != np.frombuffer(memoryview(new), kind)))
    differs = np.frombuffer(memoryview(old), np.uint8) ^ np.frombuffer(memoryview(new), np.uint8)
    if bits % 8:
        return int(np.count_nonzero(np.unpackbits(differs, bitorder="little").reshape(-1, bits).any(axis=1)))
    return int(np.count_nonzero(differs.reshape(-1, bits // 8).any(axis=1)))
