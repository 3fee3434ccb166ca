"""Recover the factors of a low-rank update from a rounded sum: a randomised range finder, then a refinement.

The range finder is that of Halko, Martinsson and Tropp (SIAM Review 53, 2011). Its result is inexact because the sum is
rounded. However, every element determines its update to within half a step of its type, and small elements have small
steps. This determines the factors much better: a few Newton steps, alternately for the rows of one factor and of the
other, lead into the polytope that the elements allow.

All functions take arrays of numpy or torch, and that module as ``xp``.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from . import _narrow_intervals
from ._intervals import Intervals, misses, regular, wide

if TYPE_CHECKING:
    from collections.abc import Callable

    Step = Callable[[Any, Any, float], tuple[Any, Any, int]]

OVERSAMPLE = 8
"""The number of random columns in addition to the expected rank."""

_POWER_STEPS = 2
_ABOVE_NOISE = 1.3  # the singular values of noise are close to each other
_ROUNDS = 30
_CENTRED_ROUNDS = 2
_SETTLED = 9  # the round after which noise and update differ clearly
_AIM = 0.6  # inner part of the interval to aim at: closer to the middle, factors need less precision
_BLOCK = 1 << 20
_CACHED = 1 << 16  # elements of a block that stays in the cache of a CPU
_WORK = 2e10  # multiplications that a search may take, a few seconds
_NARROW_PAYS = 4  # as many times the narrowest intervals that are looked at must a row have at least
_NARROW_WORK = 5e9  # the same if only the narrowest intervals of each row are looked at, which takes longer for each
_LAST_ROUNDS = 2  # with all elements, after those
_PATIENCE = 3  # rounds in a row in which no fewer elements miss
_BLURRED = 0.1  # share of elements that miss for no factors inside all intervals, above which there are none
_WORTH = 0.02  # least gain of as many rounds as the patience then, as a share of those elements
_WORKSPACE = 1 << 26


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
    return wide((basis @ left[:, :rank]) * root), wide(root[:, None] * right[:rank]), noise


def refine(xp: Any, update: Intervals, left: Any, right: Any, noise: float) -> tuple[Any, Any]:
    """Return factors whose product is inside as many intervals as a bounded search can achieve.

    Args:
        xp: numpy or torch.
        update: The intervals.
        left: The initial left factor, float64 of [rows, rank].
        right: The initial right factor, float64 of [rank, columns].
        noise: The noise level of the initial factors. Parts of the update that shrink far below it are noise.
    """
    rank, (rows, columns) = right.shape[0], update.centre.shape
    if rank**2 * max(rows, columns) > _WORKSPACE:
        return left, right

    def every(left: Any, right: Any, aim: float) -> tuple[Any, Any, int]:
        left, _ = improve(xp, update, left, right, aim)
        turned, missing = improve(xp, update.T, right.T, left.T, aim)
        return left, turned.T, missing

    elements = rows * columns
    rounds = min(_ROUNDS, int(_WORK / (2.0 * elements * rank**2)))
    least = _narrow_intervals.enough(rank)
    if hasattr(left, "double") or min(rows, columns) < _NARROW_PAYS * least:
        return _search(xp, every, (left, right), (rounds, elements), noise)[:2]
    across, down = (_narrow_intervals.of(side, least) for side in (update, update.T))
    unit = float(update.half.min())

    def narrow(left: Any, right: Any, aim: float) -> tuple[Any, Any, int]:
        left, _ = _narrow_intervals.improve(across, left, right, (aim, unit))
        turned, missing = _narrow_intervals.improve(down, right.T, left.T, (aim, unit))
        return left, turned.T, missing

    most = int(_NARROW_WORK / (2.0 * (rows + columns) * least * rank**2))
    left, right, blurred = _search(xp, narrow, (left, right), (min(_ROUNDS, most), down.columns.size), noise)
    for _ in range(0 if blurred else min(_LAST_ROUNDS, rounds)):
        left, right, _ = every(left, right, _AIM)
    return left, right


def _search(
    xp: Any, step: Step, factors: tuple[Any, Any], most: tuple[int, int], noise: float
) -> tuple[Any, Any, bool]:
    """Improve factors until fewer misses are unlikely.

    If the parent was rounded as well before the update was added, no factors are inside all intervals. Further rounds
    then make a delta smaller by less than a hundredth.

    Args:
        xp: numpy or torch.
        step: Improves both factors and returns the number of misses.
        factors: The initial ones.
        most: The largest number of rounds, and the number of elements that a step looks at.
        noise: See ``refine``.

    Returns:
        The factors, and whether none are inside all intervals.
    """
    left, right = factors
    by_chance = (1 - _AIM) * most[1]
    misses: list[int] = []
    fewest, idle, blurred = float("inf"), 0, False
    for i in range(most[0]):
        left, right, missing = step(left, right, _AIM if i >= _CENTRED_ROUNDS else 0.0)
        fewest, idle = (missing, 0) if missing < fewest else (fewest, idle + 1)
        misses.append(missing)
        done = idle == _PATIENCE
        if i == _SETTLED or (done and i < _SETTLED):
            left, right = _above(xp, left, right, noise / 2)
        if i > _SETTLED:
            blurred = missing - by_chance > _BLURRED * most[1]
            done = done or (blurred and misses[-1 - _PATIENCE] - missing < _WORTH * (missing - by_chance))
        if done:
            break
    return left, right, blurred


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
    parts, missing = [], 0
    for at in range(0, left.shape[0], step):
        part = left[at : at + step]
        near = Intervals(update.centre[at : at + step], update.half[at : at + step])
        missed, weights = misses(xp, near, part @ right, (aim, unit))
        missing += int((missed != 0).sum())
        packed = weights @ squares
        normal = xp.zeros((part.shape[0], rank, rank), dtype=packed.dtype, **_place(packed))
        normal[:, rows, others] = packed
        normal[:, others, rows] = packed
        normal = regular(normal)
        weights *= missed
        parts.append(part + xp.linalg.solve(normal, (weights @ right.T)[..., None])[..., 0])
    return xp.concatenate(parts), missing


def _block_elements(values: Any) -> int:
    return _BLOCK if hasattr(values, "double") else _CACHED


def _place(values: Any) -> dict[str, Any]:
    return {"device": values.device} if hasattr(values, "double") else {}
