"""Recover the factors of a low-rank update from a rounded sum: a randomised range finder, then a refinement.

The range finder is that of Halko, Martinsson and Tropp (SIAM Review 53, 2011). Its result is inexact because the sum is
rounded. However, every element determines its update to within half a step of its type, and small elements have small
steps. This determines the factors much better: a few Newton steps, alternately for the rows of one factor and of the
other, lead into the polytope that the elements allow.

All functions take arrays of numpy or torch, and that module as ``xp``.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

ANYTHING = 1e30
"""Half the length of the interval of an element without information, such as one that is not finite."""
OVERSAMPLE = 8
"""The number of random columns in addition to the expected rank."""

_POWER_STEPS = 2
_ABOVE_NOISE = 1.3  # the singular values of noise are close to each other
_ROUNDS = 30
_CENTRED_ROUNDS = 2
_SETTLED = 9  # the round after which noise and update differ clearly
_INSIDE = 0.003  # weight of elements that are inside their interval, which keeps the systems regular
_AIM = 0.6  # inner part of the interval to aim at: closer to the middle, factors need less precision
_BLOCK = 1 << 20
_CACHED = 1 << 16  # elements of a block that stays in the cache of a CPU
_WORK = 2e10  # multiplications that a search may take, a few seconds
_PATIENCE = 3  # rounds in a row in which no fewer elements miss
_WORKSPACE = 1 << 26


@dataclass(frozen=True, slots=True)
class Intervals:
    """The intervals of a rounded update, as arrays of [rows, columns] in float32.

    Attributes:
        centre: The middle of the interval of each element; zero if the element does not restrict the update.
        half: Half the length of the interval; ``ANYTHING`` if the element does not restrict the update.
    """

    centre: Any
    half: Any

    @property
    def T(self) -> Intervals:  # noqa: N802 - the name that arrays use
        """The transposed update."""
        return Intervals(self.centre.T, self.half.T)


def find_range(xp: Any, update: Intervals, start: Any) -> tuple[Any, Any, float]:
    """Return factors of the part of the update above the noise, and the noise level.

    Args:
        xp: numpy or torch.
        update: The update to factor.
        start: Random numbers of shape [columns, largest expected rank + ``OVERSAMPLE``], with the type of ``centre``.

    Returns:
        Balanced factors of [rows, rank] and [rank, columns] in float64, and a typical singular value of the noise.
    """
    centre = update.centre
    basis = xp.linalg.qr(centre @ start)[0]
    for _ in range(_POWER_STEPS):
        basis = xp.linalg.qr(centre @ xp.linalg.qr(centre.T @ basis)[0])[0]
    left, values, right = xp.linalg.svd(basis.T @ centre, full_matrices=False)
    noise = float(values[-OVERSAMPLE // 2 :].mean())
    rank = max(1, int((values > _ABOVE_NOISE * noise).sum()))
    root = values[:rank] ** 0.5
    return _wide((basis @ left[:, :rank]) * root), _wide(root[:, None] * right[:rank]), noise


def refine(xp: Any, update: Intervals, left: Any, right: Any, noise: float) -> tuple[Any, Any]:
    """Return factors whose product is inside as many intervals as a bounded search can achieve.

    Args:
        xp: numpy or torch.
        update: The intervals.
        left: The initial left factor, float64 of [rows, rank].
        right: The initial right factor, float64 of [rank, columns].
        noise: The noise level of the initial factors. Parts of the update that shrink far below it are noise.
    """
    work = float(left.shape[0]) * right.shape[1] * right.shape[0] ** 2 * 2
    if right.shape[0] ** 2 * max(update.centre.shape) > _WORKSPACE:
        return left, right
    fewest, idle = float("inf"), 0
    for i in range(min(_ROUNDS, int(_WORK / work))):
        aim = _AIM if i >= _CENTRED_ROUNDS else 0.0
        left, _ = improve(xp, update, left, right, aim)
        turned, misses = improve(xp, update.T, right.T, left.T, aim)
        right = turned.T
        fewest, idle = (misses, 0) if misses < fewest else (fewest, idle + 1)
        done = idle == _PATIENCE
        if i == _SETTLED or (done and i < _SETTLED):
            left, right = _above(xp, left, right, noise / 2)
        if done:
            break
    return left, right


def _above(xp: Any, left: Any, right: Any, least: float) -> tuple[Any, Any]:
    """Return balanced factors of the parts with a singular value above ``least``, at least of one part."""
    (outer, one), (inner, other) = xp.linalg.qr(left), xp.linalg.qr(right.T)
    rotate, values, turn = xp.linalg.svd(one @ other.T, full_matrices=False)
    rank = max(1, int((values > least).sum()))
    root = values[:rank] ** 0.5
    return (outer @ rotate[:, :rank]) * root, root[:, None] * (turn[:rank] @ inner.T)


def improve(xp: Any, update: Intervals, left: Any, right: Any, aim: float = _AIM) -> tuple[Any, int]:
    """Return ``left`` after one Newton step for each of its rows, towards the inner part ``aim`` of the intervals.

    Also return the number of elements that were outside of this part before the step. Distances and weights may be
    inexact, as the next step makes up for that, but the systems are badly conditioned and need float64.
    """
    rank, columns = right.shape
    upper = [(i, j) for i in range(rank) for j in range(i, rank)]
    rows, others = [i for i, _ in upper], [j for _, j in upper]
    squares = (right[rows] * right[others]).T
    unit = float(update.half.min())  # no weight is above 1
    step = max(1, _block_elements(left) // max(columns, rank * rank))
    parts, misses = [], 0
    for at in range(0, left.shape[0], step):
        part = left[at : at + step]
        missed, weights = _missed(xp, update, slice(at, at + step), part @ right, (aim, unit))
        misses += int((missed != 0).sum())
        packed = weights @ squares
        normal = xp.zeros((part.shape[0], rank, rank), dtype=packed.dtype, **_place(packed))
        normal[:, rows, others] = packed
        normal[:, others, rows] = packed
        diagonal = normal[:, range(rank), range(rank)]
        normal[:, range(rank), range(rank)] = diagonal * (1 + 1e-12) + 1e-12 * diagonal.mean() + 1e-300
        weights *= missed
        parts.append(part + xp.linalg.solve(normal, (weights @ right.T)[..., None])[..., 0])
    return xp.concatenate(parts), misses


def _missed(xp: Any, update: Intervals, rows: slice, product: Any, scale: tuple[float, float]) -> tuple[Any, Any]:
    """Return the distances of a product from the intervals, and the weights of the elements, both in float32.

    Args:
        xp: numpy or torch.
        update: The intervals.
        rows: Some of their rows.
        product: The product in these rows.
        scale: The part of an interval to aim at, and the half of one that has a weight of 1 if it is missed.
    """
    half = update.half[rows]
    off = _single(update.centre[rows] - product)
    inner = half * scale[0]
    missed = off - xp.minimum(xp.maximum(off, -inner), inner)
    weights = scale[1] / half
    weights *= weights
    return missed, _wide(xp.where(missed != 0, weights, weights * _INSIDE))


def _block_elements(values: Any) -> int:
    return _BLOCK if hasattr(values, "double") else _CACHED


def _wide(values: Any) -> Any:
    return values.double() if hasattr(values, "double") else values.astype("f8")


def _single(values: Any) -> Any:
    return values.float() if hasattr(values, "float") else values.astype("f4")


def _place(values: Any) -> dict[str, Any]:
    return {"device": values.device} if hasattr(values, "double") else {}
