"""The effective rank of a change, from a small matrix that has nearly the same singular values.

Rows and columns of a large matrix are added up in bins with random signs (a count sketch: Clarkson and Woodruff,
"Low Rank Approximation and Regression in Input Sparsity Time", STOC 2013). That takes one pass over the values and no
memory, and keeps low ranks. Rounding to an element type adds noise of full rank, with singular values below the edge of
a random matrix (Marchenko and Pastur, 1967); only what exceeds that edge counts.
"""

from __future__ import annotations

import math
from functools import cache
from typing import TYPE_CHECKING, Any

from git_theta_ext.comparison.distance import Rank
from git_theta_ext.model.floats import is_real, is_wide
from git_theta_ext.records import dataclass

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from git_theta_ext.model.dtypes import Dtype
    from git_theta_ext.model.tensor import TensorSpec

_BINS = 256
_HELD = 0.999
_ARITHMETIC = 1e-12
"""Squared singular values below this share of the largest one are errors of the arithmetic."""

_EDGE = 1.5
"""The squared edge of rounding noise is multiplied by this, as elements of unlike size have unlike errors."""

_GAP = 4
"""Noise ends where a squared singular value is this many times as large as the next one."""

_BINS_FOR_RANK = 4
"""A rank is not counted if there are fewer bins than this for each: then the bins have no room for the others."""


@dataclass(frozen=True, slots=True)
class Folding:
    """How the rows or columns of a matrix are assigned to bins.

    Attributes:
        length: Number of rows or columns.
        bins: Number of bins. Number ``n`` is in bin ``n % bins``, with the sign of ``n // bins``.
    """

    length: int
    bins: int

    @classmethod
    def of(cls, length: int) -> Folding:
        """Divide rows or columns into at most 256 bins, all of nearly the same size."""
        return cls(length, length // -(-length // _BINS))

    @property
    def signs(self) -> NDArray[Any]:
        """The sign of each round through the bins."""
        return _signs(-(-self.length // self.bins))


@cache
def _signs(count: int) -> NDArray[Any]:
    import numpy as np

    return np.random.default_rng(14).choice(np.array([-1, 1], np.float32), count)


class Sketch:
    """Adds up the change of a matrix in bins.

    Args:
        rows: How rows are assigned to bins.
        columns: How columns are assigned to bins.
        wide: Whether the values are float64.

    Attributes:
        total: The matrix of the bins.
    """

    def __init__(self, rows: Folding, columns: Folding, *, wide: bool = False) -> None:
        import numpy as np

        self._rows, self._columns = rows, columns
        self.total: NDArray[Any] = np.zeros((rows.bins, columns.bins), np.float64 if wide else np.float32)

    @classmethod
    def of(cls, spec: TensorSpec) -> Sketch | None:
        """Return an empty sketch for tensors of some shape; None if these are no real matrices.

        All dimensions but the first are those of columns, as in the weights of convolutions.
        """
        if not is_real(spec.dtype) or len(spec.shape) < 2 or not spec.elements:  # noqa: PLR2004 - a matrix
            return None
        rows, columns = spec.shape[0], spec.elements // spec.shape[0]
        if min(rows, columns) == 1:
            return None
        return cls(Folding.of(rows), Folding.of(columns), wide=is_wide(spec.dtype))

    def add(self, values: NDArray[Any], first: int) -> None:
        """Add elements of the matrix.

        Args:
            values: A one-dimensional array.
            first: Index of the first one.
        """
        length = self._columns.length
        row, column = divmod(first, length)
        if column:
            head = min(length - column, values.size)
            self._add_part(row, column, values[:head])
            row, values = row + 1, values[head:]
        if whole := values.size // length:
            self._add_rows(row, self._fold(values[: whole * length].reshape(whole, length)))
        if values.size > whole * length:
            self._add_part(row + whole, 0, values[whole * length :])

    def _fold(self, values: NDArray[Any]) -> NDArray[Any]:
        import numpy as np

        bins, signs = self._columns.bins, self._columns.signs
        rounds, rest = divmod(self._columns.length, bins)
        if rounds == 1 and not rest:
            only: NDArray[Any] = values * signs[0]
            return only
        parts = values[:, : rounds * bins].reshape(len(values), rounds, bins)
        folded: NDArray[Any] = np.matmul(signs[:rounds].astype(values.dtype, copy=False), parts)
        if rest:
            folded[:, :rest] += signs[rounds] * values[:, rounds * bins :]
        return folded

    def _add_rows(self, row: int, folded: NDArray[Any]) -> None:
        bins, signs = self._rows.bins, self._rows.signs
        at = 0
        while at < len(folded):
            rounds, place = divmod(row + at, bins)
            count = min(bins - place, len(folded) - at)
            self.total[place : place + count] += signs[rounds] * folded[at : at + count]
            at += count

    def _add_part(self, row: int, column: int, values: NDArray[Any]) -> None:
        """Add elements of a single row."""
        bins, signs = self._columns.bins, self._columns.signs
        rounds, place = divmod(row, self._rows.bins)
        total, sign = self.total[place], self._rows.signs[rounds]
        while values.size:
            at, into = divmod(column, bins)
            whole = 0 if into else values.size // bins
            if whole:
                count = whole * bins
                total += sign * (signs[at : at + whole] @ values[:count].reshape(whole, bins))
            else:
                count = min(bins - into, values.size)
                total[into : into + count] += sign * signs[at] * values[:count]
            column, values = column + count, values[count:]


def rank_of(total: NDArray[Any], spec: TensorSpec, noise: float) -> Rank | None:
    """Return the effective rank of a change; None if nothing of it exceeds rounding errors.

    Args:
        total: The sum of the sketches of all parts.
        spec: The tensor.
        noise: The squared norm of the rounding errors.
    """
    import numpy as np

    peak = float(np.abs(total).max(initial=0.0))
    if not peak or not math.isfinite(peak):
        return None
    values = total.astype(np.float64) / peak
    if values.shape[0] > values.shape[1]:
        values = values.T
    squares = np.linalg.eigvalsh(values @ values.T)[::-1]
    rows, columns = values.shape
    edge = _EDGE * noise / peak / peak / (rows * columns) * (math.sqrt(rows) + math.sqrt(columns)) ** 2
    signal = squares[squares > max(edge, _ARITHMETIC * float(squares[0]))]
    if not signal.size:
        return None
    rank = int(np.searchsorted(np.cumsum(signal), _HELD * signal.sum())) + 1
    shorter = min(spec.shape[0], spec.elements // spec.shape[0])
    whole = rows == shorter and (columns >= _BINS_FOR_RANK * rows or rows * columns == spec.elements)
    most = rows if whole else max(1, min(rows, columns) // _BINS_FOR_RANK)
    # If the spectrum has no gap where the noise begins, part of the change is hidden in the noise.
    hidden = rank == signal.size < squares.size and signal[-1] < _GAP * squares[signal.size]
    return Rank(min(rank, most), exact=rank <= most and not hidden)


def rounding_noise(dtype: Dtype, norm: float) -> float:
    """Return the squared norm of the errors of rounding to a type, if all mantissas are equally frequent.

    Args:
        dtype: A real float type.
        norm: Norm of the tensor.
    """
    return norm * norm * math.ldexp(1, -2 * dtype.mantissa) / 28
