"""Measure how far apart two versions of a tensor are, in one pass and in bounded memory."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

from git_theta_ext.comparison.distance import Distance, combined
from git_theta_ext.comparison.sketch import Sketch, rank_of, rounding_noise
from git_theta_ext.model.floats import components, is_real, is_wide, to_float
from git_theta_ext.model.tensor import TensorSpec
from git_theta_ext.records import dataclass, replace

if TYPE_CHECKING:
    from collections.abc import Iterable

    from numpy.typing import NDArray
    from typing_extensions import Buffer

    from git_theta_ext.model.dtypes import Dtype

_UNSIGNED = {8: "u1", 16: "<u2", 32: "<u4", 64: "<u8"}
_SIGNED = {16: "<i2", 32: "<i4", 64: "<i8"}
_BLOCK = 1 << 17
"""Elements that are measured at once: few enough for the cache, enough that starting numpy's functions costs little."""

_SAFE = (1e-140, 1e140)
"""Squares of values within these bounds neither overflow nor vanish in float64."""

_SAFE_SQUARES = (1e-24, 1e30)
"""Sums of squares within these bounds are exact enough in float32, since single squares that vanish do not matter."""


@dataclass(frozen=True, slots=True)
class Piece:
    """What was measured of a part of a tensor.

    Attributes:
        distance: Of the part.
        sketch: For the rank of the change; None if nothing changed, or if the tensor is no matrix.
    """

    distance: Distance
    sketch: NDArray[Any] | None = None


def comparable(old: TensorSpec, new: TensorSpec) -> bool:
    """Return whether two tensors can be measured: if they have one shape, and one type or both a float type."""
    if old.shape != new.shape:
        return False
    return old.dtype == new.dtype or (
        old.dtype.arithmetic and new.dtype.arithmetic and components(old.dtype) == components(new.dtype)
    )


def common_rows(old: TensorSpec, new: TensorSpec) -> int | None:
    """Return how many first rows of tensors with other numbers of rows can be measured, as of a vocabulary that grew.

    Returns:
        None if they have the same number of rows, or if their rows are not ``comparable``.
    """
    shapes = old.shape, new.shape
    if not all(shapes) or shapes[0][1:] != shapes[1][1:] or shapes[0] == shapes[1]:
        return None
    rows = min(shape[0] for shape in shapes)
    if not rows or old.dtype.bits % 8 or new.dtype.bits % 8:
        return None
    return rows if comparable(first_rows(old, rows), first_rows(new, rows)) else None


def first_rows(spec: TensorSpec, rows: int) -> TensorSpec:
    """Return what a tensor is without the rows after the first ones."""
    return TensorSpec.of(spec.dtype.name, (rows, *spec.shape[1:]))


def measurable(old: TensorSpec, new: TensorSpec) -> bool:
    """Return whether two tensors, or their common rows, can be measured."""
    return comparable(old, new) or common_rows(old, new) is not None


class Measurement:
    """Measures the distance between two tensors that are ``comparable``.

    Args:
        old: The older tensor.
        new: The newer tensor.
    """

    def __init__(self, old: TensorSpec, new: TensorSpec) -> None:
        self._old, self._new = old, new
        self._distances: list[Distance] = []
        self._sketch: NDArray[Any] | None = None

    @property
    def nbytes(self) -> int:
        """Size in bytes of the newer tensor."""
        return self._new.nbytes

    def piece(self, old: Buffer, new: Buffer, first: int) -> Piece:
        """Measure a part of both tensors. Parts can be measured in several threads.

        Args:
            old: The little-endian bytes, whole elements.
            new: The same elements.
            first: Index of the first element.

        Raises:
            ValueError: The parts have different sizes.
        """
        before, after = memoryview(old).cast("B"), memoryview(new).cast("B")
        old_bits, new_bits = self._old.dtype.bits, self._new.dtype.bits
        elements = before.nbytes * 8 // old_bits
        if elements != after.nbytes * 8 // new_bits:
            raise ValueError("the parts of the two tensors have different sizes")
        if not self._old.dtype.arithmetic:
            return Piece(Distance(elements, _changed(before, after, old_bits)))
        sketch = Sketch.of(self._new)
        distances = []
        for start in range(0, elements, _BLOCK):
            end = min(start + _BLOCK, elements)
            distance, difference = _block(
                before[start * old_bits // 8 : end * old_bits // 8],
                after[start * new_bits // 8 : end * new_bits // 8],
                self._old.dtype,
                self._new.dtype,
            )
            distances.append(distance)
            if sketch is not None and difference is not None:
                sketch.add(difference, first + start)
        total = combined(distances) or Distance(0, 0)
        return Piece(total, sketch.total if sketch is not None and total.changed else None)

    def add(self, piece: Piece) -> None:
        """Add what was measured of a part."""
        self._distances.append(piece.distance)
        if piece.sketch is not None:
            self._sketch = piece.sketch if self._sketch is None else self._sketch + piece.sketch

    def result(self) -> Distance:
        """Return the distance when all parts were added."""
        empty = (0.0, 0.0, 0.0, 0.0) if self._old.dtype.arithmetic else ()
        distance = combined(self._distances) or Distance(0, 0, *empty)
        if self._sketch is None or distance.norm_old is None or distance.norm_new is None:
            return distance
        noise = rounding_noise(self._old.dtype, distance.norm_old) + rounding_noise(self._new.dtype, distance.norm_new)
        # Elements that did not change were rounded alike.
        return replace(distance, rank=rank_of(self._sketch, self._new, noise * distance.share))


def measure(
    old: Iterable[Buffer], new: Iterable[Buffer], spec: TensorSpec, old_spec: TensorSpec | None = None
) -> Distance:
    """Measure the distance between two versions of a tensor.

    Args:
        old: The little-endian bytes, in chunks of whole elements and whole bytes.
        new: The same, in chunks of as many elements. A chunk is not used after the next one is requested.
        spec: The newer tensor.
        old_spec: The older tensor, if its type is another one.

    Raises:
        ValueError: The chunks of the two tensors have different sizes.
    """
    measurement = Measurement(old_spec or spec, spec)
    first = 0
    for old_piece, new_piece in zip(old, new, strict=True):
        piece = measurement.piece(old_piece, new_piece, first)
        measurement.add(piece)
        first += piece.distance.elements
    return measurement.result()


def _block(
    old: memoryview, new: memoryview, old_dtype: Dtype, new_dtype: Dtype
) -> tuple[Distance, NDArray[Any] | None]:
    """Measure as many elements as fit into the cache; return the difference, too, if there is one."""
    import numpy as np

    with np.errstate(over="ignore", under="ignore", invalid="ignore"):
        before, after = to_float(old, old_dtype), to_float(new, new_dtype)
        elements = before.size // components(old_dtype)
        opposite: NDArray[Any] | None = None
        if old_dtype != new_dtype:
            changed = _unequal(before, after, components(old_dtype))
        elif is_real(old_dtype) and old_dtype.bits in _SIGNED:
            changed, opposite = _differing_bits(old, new, _SIGNED[old_dtype.bits])
        else:
            changed = _changed(old, new, old_dtype.bits)
        if is_wide(old_dtype) or is_wide(new_dtype):
            return _exact_block(before, after, elements, changed)
        square_old, square_new = float(before @ before), float(after @ after)
        if not (_is_safe(square_old) and _is_safe(square_new)):
            return _exact_block(before, after, elements, changed)
        norm_old, norm_new = math.sqrt(square_old), math.sqrt(square_new)
        if not changed:
            return Distance(elements, 0, 0.0, norm_old, norm_new, 0.0), None
        difference = after - before
        square = float(difference @ difference)
        norm = math.sqrt(square) if _is_safe(square) else _norm(difference.astype(np.float64))
        largest = max(float(difference.max()), -float(difference.min()))
        flips = _flips(before, after, opposite)
    return Distance(elements, changed, norm, norm_old, norm_new, largest, flips), difference


def _exact_block(
    before: NDArray[Any], after: NDArray[Any], elements: int, changed: int
) -> tuple[Distance, NDArray[Any] | None]:
    """Measure what float32 has no range for, and what is not finite."""
    import numpy as np

    old, new = before.astype(np.float64), after.astype(np.float64)
    difference = np.subtract(new, old, out=np.zeros_like(new), where=new != old)
    distance = Distance(
        elements,
        changed,
        _norm(difference),
        _norm(old),
        _norm(new),
        _peak(difference),
        _flips(before, after),
        nan_old=int(np.count_nonzero(np.isnan(old))),
        nan_new=int(np.count_nonzero(np.isnan(new))),
        infinite_old=int(np.count_nonzero(np.isinf(old))),
        infinite_new=int(np.count_nonzero(np.isinf(new))),
    )
    return distance, difference if changed else None


def _is_safe(square: float) -> bool:
    return _SAFE_SQUARES[0] < square < _SAFE_SQUARES[1]


def _flips(before: NDArray[Any], after: NDArray[Any], opposite: NDArray[Any] | None = None) -> int:
    """Count elements that became positive or negative and were the opposite, among those whose sign bits differ."""
    import numpy as np

    at = np.flatnonzero(np.signbit(before) != np.signbit(after)) if opposite is None else opposite
    return int(np.count_nonzero((np.sign(before[at]) * np.sign(after[at])) < 0))


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


def _unequal(before: NDArray[Any], after: NDArray[Any], reals: int) -> int:
    """Count elements of that many reals that differ; those that are NaN in both do not."""
    import numpy as np

    differs = (before != after) & ~(np.isnan(before) & np.isnan(after))
    return int(np.count_nonzero(differs if reals == 1 else differs.reshape(-1, reals).any(axis=1)))


def _differing_bits(old: memoryview, new: memoryview, kind: str) -> tuple[int, NDArray[Any]]:
    """Return how many elements differ, and the indices of those whose highest bits, which are their signs, do."""
    import numpy as np

    differing = np.frombuffer(old, kind) ^ np.frombuffer(new, kind)
    return int(np.count_nonzero(differing != 0)), np.flatnonzero(differing < 0)


def _changed(old: memoryview, new: memoryview, bits: int) -> int:
    import numpy as np

    if bits in _UNSIGNED:
        kind = _UNSIGNED[bits]
        return int(np.count_nonzero(np.frombuffer(old, kind) != np.frombuffer(new, kind)))
    differs = np.frombuffer(old, np.uint8) ^ np.frombuffer(new, np.uint8)
    if bits % 8:
        return int(np.count_nonzero(np.unpackbits(differs, bitorder="little").reshape(-1, bits).any(axis=1)))
    return int(np.count_nonzero(differs.reshape(-1, bits // 8).any(axis=1)))
