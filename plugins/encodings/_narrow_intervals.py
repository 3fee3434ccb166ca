"""Newton steps for the rows of a factor by the narrowest intervals of each row, on the CPU.

The weight of an element is the inverse square of its interval, whose length halves with each step of the exponent. So a
few small elements of a row determine its factors almost as well as all of them do, in a fraction of the time.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

from git_theta_ext.interfaces import improve_rows, narrowest

from ._intervals import INSIDE, Intervals, misses, regular

if TYPE_CHECKING:
    from numpy.typing import NDArray


_LEAST = 128
_FOR_EACH_RANK = 4
_BLOCK = 1 << 12  # elements whose vectors stay in the cache of a CPU
_SELECTED = 1 << 20  # elements that are sorted at a time


class NarrowIntervals(NamedTuple):
    """The narrowest intervals of each row of an update.

    Attributes:
        columns: Their columns, of [rows, number of intervals].
        centre: The middle of each.
        half: Half of the length of each.
    """

    columns: NDArray[Any]
    centre: NDArray[Any]
    half: NDArray[Any]


def enough(rank: int) -> int:
    """Return the number of intervals of a row that determine the row of a factor."""
    return max(_LEAST, _FOR_EACH_RANK * rank)


def of(update: Intervals, count: int) -> NarrowIntervals:
    """Return the narrowest intervals of each row, which has more than ``count``."""
    import numpy as np

    rows, columns = update.half.shape
    step = max(1, _SELECTED // columns)
    parts = []
    for at in range(0, rows, step):
        half, centre = update.half[at : at + step], update.centre[at : at + step]
        found = narrowest(half, centre, count)
        if found is None:
            chosen = np.argpartition(half, count - 1, axis=1)[:, :count]
            centre, half = (np.take_along_axis(side, chosen, axis=1) for side in (centre, half))
            found = chosen.astype(np.int32), centre, half
        parts.append(found)
    return NarrowIntervals(*map(np.concatenate, zip(*parts, strict=True)))


def improve(known: NarrowIntervals, left: Any, right: Any, scale: tuple[float, float]) -> tuple[Any, int]:
    """Return ``left`` after a Newton step for each row, and how many elements missed; see ``_range_finder.improve``.

    Args:
        known: The intervals to look at.
        left: The factor to improve, of [rows, rank].
        right: The other factor, of [rank, columns].
        scale: As for ``_intervals.misses``.
    """
    import numpy as np

    improved = improve_rows(left, right, **known._asdict(), aim=scale[0], unit=scale[1], inside=INSIDE)
    if improved is not None:
        return improved
    rows = np.ascontiguousarray(right.T)
    step = max(1, _BLOCK // known.columns.shape[1])
    parts, missing = [], 0
    for at in range(0, left.shape[0], step):
        part = slice(at, at + step)
        vectors = rows[known.columns[part]]
        product = np.matmul(vectors, left[part, :, None])[..., 0]
        missed, weights = misses(np, Intervals(known.centre[part], known.half[part]), product, scale)
        missing += int(np.count_nonzero(missed))
        weighted = (vectors * weights[..., None]).transpose(0, 2, 1)
        normal = regular(np.matmul(weighted, vectors))
        towards = np.matmul(weighted, missed[..., None].astype("f8"))
        parts.append(left[part] + np.linalg.solve(normal, towards)[..., 0])
    return np.concatenate(parts), missing
