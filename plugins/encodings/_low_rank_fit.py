"""Find the factors of a low-rank update between a matrix and its parent, if there is one."""

from __future__ import annotations

import ctypes
import threading
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING, Any

from git_theta_ext.interfaces import (
    Base,
    Chunk,
    Fit,
    TensorSpec,
    encode_dense,
    encode_residual,
    is_installed,
    is_real,
    payload_size,
    to_float64,
)

from . import _floats, _intervals, _range_finder

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    import numpy as np
    from numpy.typing import NDArray

    from git_theta_ext.interfaces import TensorSource

    Predict = Callable[[Chunk, memoryview], None]

_LARGEST = 1 << 28  # elements; a fit takes about ten times as many bytes in memory
_TOGETHER = 1 << 27  # elements that all threads together hold in memory, except for a single larger tensor
_SMALLEST = 1 << 12
_SAMPLES = (192, 512)  # rows and columns; the first is enough for most low ranks, in a tenth of the time
_SAMPLED = 1 << 23  # elements to read for a sample
_RANKS = (4, 8, 16, 32, 64, 128)
_EXPLAINED = 0.2  # the largest error of a low-rank prediction, as a share of the error of the unchanged parent
_BY_CHANCE = 2.5  # standard deviations
_ARITHMETIC = 1e-7  # relative error of an update that was computed in float32
_TINY = 1e-36
_REGULAR = 1e-9
_BITS = (4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16, 17, 18, 19, 20, 21, 22, 24)
_COARSE = 3
_MEASURED = 1 << 17  # elements
_PAYS_ON_DEVICE = 1 << 22  # elements


def fit(target: TensorSource, parent: TensorSource, predict: Predict) -> Fit | None:
    """Return scale and factors, or None if no low rank explains the update.

    Float64 is not tried: the rank of an update depends on the type that it is computed in, and few merges use float64.
    """
    rank = expected_rank(target, parent)
    if rank is None:
        return None
    rows, columns = matrix_shape(target.spec)
    with _ROOM.taken(target.spec.elements):
        update = _update(target, parent, (rows, columns))
        left, right = _factor(update, min(rank + _range_finder.OVERSAMPLE, rows, columns))
        del update
    return _rounded(target, parent, left, right, predict)


class _Room:
    """A memory budget in elements that threads share."""

    def __init__(self, elements: int) -> None:
        self._all = self._free = elements
        self._changed = threading.Condition()

    @contextmanager
    def taken(self, elements: int) -> Iterator[None]:
        """Reserve memory for a block, waiting until it is free; a request above the budget takes all of it."""
        elements = min(elements, self._all)
        with self._changed:
            self._changed.wait_for(lambda: elements <= self._free)
            self._free -= elements
        try:
            yield
        finally:
            with self._changed:
                self._free += elements
                self._changed.notify_all()


_ROOM = _Room(_TOGETHER)


def expected_rank(target: TensorSource, parent: TensorSource) -> int | None:
    """Return an upper bound of the rank of an update, by a sample; None if no low rank explains it."""
    spec = target.spec
    if parent.spec != spec or not is_real(spec.dtype) or spec.dtype.name == "F64" or len(spec.shape) < 2:  # noqa: PLR2004 - a matrix
        return None
    if not _SMALLEST <= spec.elements <= _LARGEST or min(matrix_shape(spec)) < 4 * _RANKS[0]:
        return None
    ranks = (_sampled_rank(target, parent, size) for size in _SAMPLES)
    return next((rank for rank in ranks if rank is not None), None)


def matrix_shape(spec: TensorSpec) -> tuple[int, int]:
    return spec.shape[0], spec.elements // max(spec.shape[0], 1)


@dataclass
class _Rows:
    """Rows of a tensor that have been read already; see ``git_theta_ext.interfaces.TensorSource``."""

    spec: TensorSpec
    data: memoryview

    def read(self, start: int = 0, end: int | None = None) -> memoryview:
        return self.data[start:end]


def _update(target: TensorSource, parent: TensorSource, shape: tuple[int, int]) -> _intervals.Intervals:
    """Return the intervals of the update in the first rows and columns."""
    import numpy as np

    centre, half = np.empty(shape[0] * shape[1], np.float32), np.empty(shape[0] * shape[1], np.float32)
    with np.errstate(invalid="ignore", over="ignore"):
        for block in _floats.blocks(centre.size):
            piece, dtype = _floats.of_bytes(block, target.spec.dtype), target.spec.dtype
            low, high = _floats.rounding_interval(target.read(piece.start, piece.stop), dtype)
            base = to_float64(parent.read(piece.start, piece.stop), dtype)
            middle = (low + high) / 2 - base
            unknown = ~(np.abs(middle) < _intervals.ANYTHING)
            middle[unknown] = 0
            centre[block] = middle
            half[block] = np.where(unknown, _intervals.ANYTHING, (high - low) / 2 + _ARITHMETIC * np.abs(middle))
    # If a sum cancels out, its error is that of its terms.
    squares = sum(float(np.square(centre[block]).sum(dtype=np.float64)) for block in _floats.blocks(centre.size))
    half += _ARITHMETIC * (squares / centre.size) ** 0.5 + _TINY
    return _intervals.Intervals(centre.reshape(shape), half.reshape(shape))


def _sampled_rank(target: TensorSource, parent: TensorSource, size: int) -> int | None:
    """Return an upper bound of the rank of a matrix, or None if ``size`` rows and columns show no low rank.

    The leading directions of one half of the sample's rows, fitted to one half of the columns of the others, must
    predict the other half.
    """
    import numpy as np

    rows, columns = matrix_shape(target.spec)
    taken = min(rows, size, max(_SAMPLED // columns, 4 * _RANKS[0]))
    first = (rows - taken) // 2
    row_bytes = columns * target.spec.dtype.bits // 8
    piece = first * row_bytes, (first + taken) * row_bytes
    data, base = target.read(*piece), parent.read(*piece)
    if data == base:
        return None
    sampled = np.random.default_rng(1).permutation(columns)[: min(columns, size)]
    of_target, of_parent = (_Rows(target.spec, _columns(side, (taken, columns), sampled)) for side in (data, base))
    update = _update(of_target, of_parent, (taken, sampled.size))
    centre, half = update.centre, update.half
    known_rows, known_columns = taken // 2, sampled.size // 2
    unseen = centre[known_rows:, known_columns:], half[known_rows:, known_columns:]
    unexplained = _distance(0, *unseen)
    if unexplained == 0 or not _rows_are_alike(centre[:known_rows]):
        return None
    directions = _directions(centre[:known_rows].astype("f8"))
    seen = centre[known_rows:, :known_columns]
    for rank in _RANKS:
        if 4 * rank > min(taken, sampled.size) and rank > _RANKS[0]:
            break
        one, other = directions[:rank, :known_columns], directions[:rank, known_columns:]
        coefficients = np.linalg.solve(one @ one.T + _REGULAR * np.eye(len(one)), one @ seen.T)
        if _distance(coefficients.T @ other, *unseen) < _EXPLAINED * unexplained:
            return rank
    return None


def _columns(data: memoryview, shape: tuple[int, int], chosen: NDArray[np.int64]) -> memoryview:
    """Return the bytes of some columns of a matrix."""
    import numpy as np

    matrix = np.frombuffer(data, f"<u{data.nbytes // (shape[0] * shape[1])}").reshape(shape)
    return matrix.take(chosen, axis=1, mode="clip").data.cast("B")


def _rows_are_alike(rows: NDArray[np.float32]) -> bool:
    """Return whether rows have more in common than independent ones have by chance, as the rows of a low rank do.

    The squared cosine of two independent rows is 1 / columns on average, and that of two rows of rank r is 1 / r. This
    takes a tenth of the time of finding directions.
    """
    import numpy as np

    lengths = np.sqrt(np.square(rows).sum(axis=1))
    unit = rows[lengths > 0] / lengths[lengths > 0, None]
    count = len(unit)
    pairs = count * (count - 1)
    if not pairs:
        return False
    common = (float(np.square(unit @ unit.T).sum(dtype=np.float64)) - count) / pairs
    # Half of the pairs are the same as the others, and the square of a cosine varies by about 1.4 times its mean.
    return bool(common * rows.shape[1] > 1 + _BY_CHANCE * 2 / pairs**0.5)


def _directions(rows: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the right singular vectors of a matrix with few rows, leading ones first; faster than the SVD."""
    import numpy as np

    values, vectors = np.linalg.eigh(rows @ rows.T)
    above = values[::-1] > _REGULAR * values[-1]
    leading: NDArray[np.float64] = (vectors[:, ::-1][:, above].T @ rows) / np.sqrt(values[::-1][above])[:, None]
    return leading


def _distance(guess: Any, centre: NDArray[np.float32], half: NDArray[np.float32]) -> float:
    """Return the sum of the squared distances of a guess from the intervals."""
    import numpy as np

    return float((np.maximum(np.abs(centre - guess) - half, 0).astype(np.float64) ** 2).sum())


def _factor(update: _intervals.Intervals, width: int) -> tuple[Any, Any]:
    """Return refined factors as numpy arrays, computed on a GPU if one can be used and the matrix is large enough."""
    import numpy as np

    start = np.random.default_rng(2).standard_normal((update.centre.shape[1], width)).astype(np.float32)
    if update.centre.size >= _PAYS_ON_DEVICE and _has_device():
        with suppress(RuntimeError):  # it may be busy or full, or torch may have no kernels for it
            return _factor_on_device(update, start)
    return _range_finder.refine(np, update, *_range_finder.find_range(np, update, start))


def _factor_on_device(update: _intervals.Intervals, start: NDArray[np.float32]) -> tuple[Any, Any]:
    import torch

    on_device = _intervals.Intervals(torch.from_numpy(update.centre).cuda(), torch.from_numpy(update.half).cuda())
    initial = _range_finder.find_range(torch, on_device, torch.from_numpy(start).cuda())
    left, right = _range_finder.refine(torch, on_device, *initial)
    return left.cpu().numpy(), right.cpu().numpy()


def _has_device() -> bool:
    """Return whether torch can use CUDA. Torch takes seconds to import, so it is only imported if there is a driver."""
    if not is_installed("torch"):
        return False
    try:
        ctypes.CDLL("libcuda.so.1")
    except OSError:
        return False
    import torch

    return torch.cuda.is_available()


def _rounded(target: TensorSource, parent: TensorSource, left: Any, right: Any, predict: Predict) -> Fit:
    """Return the factors with the mantissa width that makes factors and residual smallest in total."""
    rows, columns = left.shape[0], right.shape[1]
    taken = max(1, min(rows, _MEASURED // columns))
    first = (rows - taken) // 2
    row_bytes = columns * target.spec.dtype.bits // 8
    piece = first * row_bytes, (first + taken) * row_bytes
    data, base = target.read(*piece), parent.read(*piece)
    predicted = memoryview(bytearray(data.nbytes))

    @cache
    def measured(bits: int) -> tuple[float, Fit]:
        candidate = Fit({"scale": 1.0, "swap": False}, (_stored(_keep(left, bits)), _stored(_keep(right, bits))))
        bases = (Base(parent.spec, base), *(Base(spec, memoryview(values)) for spec, values in candidate.tensors))
        predict(Chunk(target.spec, piece[0], bases, candidate.params), predicted)
        missed = payload_size(encode_residual(target.spec, data, predicted))
        return missed * rows / taken + sum(
            payload_size(encode_dense(spec, memoryview(values))) for spec, values in candidate.tensors
        ), candidate

    # The size falls, and rises again: every third width is enough to find where.
    best = _BITS[0]
    for bits in _BITS[1::_COARSE]:
        if measured(bits)[0] > 1.1 * measured(best)[0]:
            break
        best = min(best, bits, key=lambda width: measured(width)[0])
    near = [bits for bits in _BITS if abs(bits - best) < _COARSE]
    return measured(min(near, key=lambda width: measured(width)[0]))[1]


def _keep(values: Any, bits: int) -> Any:
    """Round to ``bits`` bits of mantissa after the leading one."""
    import numpy as np

    mantissa, exponent = np.frexp(values)
    return np.ldexp(np.rint(np.ldexp(mantissa, bits + 1)), exponent - bits - 1)


def _stored(values: Any) -> tuple[TensorSpec, bytes]:
    return TensorSpec.of("F32", values.shape), values.astype("<f4").tobytes()
