"""The difference from a parent plus a product of two thin factors: a merged LoRA (https://arxiv.org/abs/2106.09685).

A value is predicted as ``parent + scale * sum_k left[i, k] * right[k, j]`` with the factors of PEFT: ``left`` of shape
[rows, rank] is its ``lora_B``, and ``right`` of shape [rank, columns] is its ``lora_A``. With ``swap`` the update is
transposed, as in layers with ``fan_in_fan_out``. Tensors of more than two dimensions are matrices of [shape[0], all
others]. Products are added in the order of k, in float64, and rounded once.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from git_theta_ext.errors import CorruptError
from git_theta_ext.interfaces import PredictingEncoding, add_product, to_float64

from . import _floats, _low_rank_fit

if TYPE_CHECKING:
    from collections.abc import Iterator

    from git_theta_ext.interfaces import Chunk, Fit, TensorSource

_MATRIX = 2

_FACTOR_WIDTH = 4
"""Bytes of an element of a factor."""

_MOST_RANKS = 4
"""The limit of ranks as a multiple of the longer side of a matrix; higher ranks would only cost time."""


class LowRank(PredictingEncoding):
    """Two thin factors and a residual; lossless for any bytes."""

    name = "low_rank"
    needs = ("range", "whole", "whole")

    def fit(self, target: TensorSource, parent: TensorSource) -> Fit | None:
        """Find the factors of a low-rank update, if there is one; see ``git_theta_ext.interfaces.Encoding``."""
        return _low_rank_fit.fit(target, parent, self.predict)

    def expected_bytes(self, target: TensorSource, parent: TensorSource) -> int | None:
        """Estimate the size of the factors; see ``git_theta_ext.interfaces.Sampled``."""
        rank = _low_rank_fit.expected_rank(target, parent)
        return None if rank is None else rank * sum(_low_rank_fit.matrix_shape(target.spec)) * _FACTOR_WIDTH

    def predict(self, chunk: Chunk, out: memoryview) -> None:
        """Write the prediction of one chunk; see ``git_theta_ext.interfaces.Predictor``."""
        import numpy as np

        parent = _floats.check_parent(chunk, out.nbytes, len(self.needs))
        rows, columns, scale = _factors(chunk)
        dtype = chunk.spec.dtype
        width = dtype.bits // 8
        start = chunk.offset // width
        if add_product(rows, columns, scale=scale, parent=parent.data, dtype=dtype, start=start, out=out):
            return
        total, product = np.empty(_floats.BLOCK), np.empty(_floats.BLOCK)
        done = 0
        with np.errstate(all="ignore"):
            for across, down in _tiles(start, out.nbytes // width, columns.shape[1]):
                left, right = rows[across], columns[:, down]
                size = left.shape[0] * right.shape[1]
                tile = slice(done * width, (done + size) * width)
                shape = left.shape[0], right.shape[1]
                sums, terms = total[:size].reshape(shape), product[:size].reshape(shape)
                np.multiply(left[:, :1], right[:1], out=sums)
                for k in range(1, left.shape[1]):
                    np.multiply(left[:, k : k + 1], right[k : k + 1], out=terms)
                    np.add(sums, terms, out=sums)
                np.multiply(sums, scale, out=sums)
                np.add(sums, to_float64(parent.data[tile], dtype).reshape(shape), out=sums)
                _floats.write(sums, dtype, out[tile])
                done += size


ENCODING = LowRank()


def _factors(chunk: Chunk) -> tuple[Any, Any, float]:
    """Return the factor of the rows, that of the columns and the scale.

    Raises:
        CorruptError: The factors do not fit the tensor or each other.
    """
    scale, swap = _floats.finite_number(chunk.params, "scale"), chunk.params.get("swap", False)
    if not isinstance(swap, bool):
        raise CorruptError("parameter 'swap' of a chunk is not true or false")
    if len(chunk.spec.shape) < _MATRIX:
        raise CorruptError("a chunk of low rank is not part of a matrix")
    rows = chunk.spec.shape[0]
    columns = chunk.spec.elements // max(rows, 1)
    height, width = (columns, rows) if swap else (rows, columns)
    left, right = chunk.bases[1:]
    rank = right.spec.shape[0] if right.spec.shape else 0
    if not 0 < rank <= _MOST_RANKS * max(rows, columns):
        raise CorruptError(f"factors of rank {rank} for {rows} rows and {columns} columns")
    one, other = _floats.factor(left, (height, rank)), _floats.factor(right, (rank, width))
    return (other.T, one.T, scale) if swap else (one, other, scale)


def _tiles(start: int, count: int, width: int) -> Iterator[tuple[slice, slice]]:
    """Yield rows and columns of rectangles, at most as large as a block, that cover a run of elements in order."""
    end = start + count
    while start < end:
        row, column = divmod(start, width)
        if column == 0 and end - start >= width and width <= _floats.BLOCK:
            height = min(_floats.BLOCK // width, (end - start) // width)
            yield slice(row, row + height), slice(0, width)
            start += height * width
        else:
            length = min(_floats.BLOCK, width - column, end - start)
            yield slice(row, row + 1), slice(column, column + length)
            start += length
