"""Products of thin factors and the search for such factors, by the compiled module.

There is no second implementation here: without the module, and wherever it declines, the callers compute with arrays.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from git_theta_ext.coding.kernels import load_compiled

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from git_theta_ext.model.dtypes import Dtype

_TYPES = {"BF16": 2, "F32": 4}
"""The element types that the module predicts, and their widths."""
_MOST_RANKS = 16
_MOST_INTERVALS = 4096
_VECTOR = 4

compiled = load_compiled("_factors")


def add_product(  # noqa: PLR0913 - named
    left: NDArray[np.float64],
    right: NDArray[np.float64],
    *,
    scale: float,
    parent: memoryview,
    dtype: Dtype,
    start: int,
    out: memoryview,
) -> bool:
    """Write elements of ``parent + scale * left @ right``: products are added in order, in float64, and rounded once.

    Args:
        left: The factor of the rows, of [rows, rank].
        right: The factor of the columns, of [rank, columns].
        scale: A finite number.
        parent: Little-endian elements of the parent.
        dtype: Their type, and that of the result.
        start: The index of the first one in the matrix.
        out: Takes as many elements.

    Returns:
        Whether they were written. If not, ``out`` has any content: another type, a value that is not finite, or no
        compiled module.
    """
    if compiled is None or dtype.name not in _TYPES:
        return False
    done: bool = compiled.predict(
        _aligned(left), _aligned(right), right.shape[0], scale, start, _TYPES[dtype.name], parent, out
    )
    return done


def narrowest(
    half: NDArray[np.float32], centre: NDArray[np.float32], count: int
) -> tuple[NDArray[np.int32], NDArray[np.float32], NDArray[np.float32]] | None:
    """Return the columns of the narrowest intervals of each row, in ascending order, with their centres and halves.

    Args:
        half: Half of the length of each interval, positive, of [rows, columns].
        centre: The middle of each.
        count: How many, from one to the number of columns. Of intervals of the same length, the first ones are taken.

    Returns:
        Arrays of [rows, ``count``]; None without the compiled module.
    """
    import numpy as np

    if compiled is None:
        return None
    shape = half.shape[0], count
    chosen, halves, centres = np.empty(shape, np.int32), np.empty(shape, np.float32), np.empty(shape, np.float32)
    whole = np.ascontiguousarray(half), np.ascontiguousarray(centre)
    compiled.narrowest(*whole, shape[0], chosen, halves, centres)
    return chosen, centres, halves


def improve_rows(  # noqa: PLR0913 - named
    left: NDArray[np.float64],
    right: NDArray[np.float64],
    *,
    columns: NDArray[np.int32],
    centre: NDArray[np.float32],
    half: NDArray[np.float32],
    aim: float,
    unit: float,
    inside: float,
) -> tuple[Any, int] | None:
    """Take a Newton step for each row of a factor, towards some intervals of the row.

    Args:
        left: The factor to improve, of [rows, rank].
        right: The other factor, of [rank, columns].
        columns: The columns of the intervals, of [rows, number of intervals].
        centre: The middle of each interval.
        half: Half of the length of each.
        aim: The part of an interval to aim at.
        unit: The half of an interval that has a weight of 1 if it is missed.
        inside: The weight of an interval that is not missed, as a share of that.

    Returns:
        The improved factor, and the number of intervals that were missed before; None for high ranks, for many
        intervals, and without the compiled module.
    """
    import numpy as np

    rank = left.shape[1]
    if compiled is None or rank > _MOST_RANKS or columns.shape[1] > _MOST_INTERVALS:
        return None
    vectors = np.zeros((right.shape[1], -(-rank // _VECTOR) * _VECTOR))
    vectors[:, :rank] = right.T
    improved = np.array(left, np.float64, order="C")
    missing: int = compiled.improve(centre, half, columns, vectors, rank, improved, aim, unit, inside)
    return improved, missing


def _aligned(values: NDArray[np.float64]) -> NDArray[np.float64]:
    import numpy as np

    return np.require(values, np.float64, ["C", "A"])
