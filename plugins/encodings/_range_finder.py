"""Factors of a low-rank update out of a rounded sum: a randomised range finder, then a search within the rounding.

The range finder is Halko, Martinsson and Tropp's (SIAM Review 53, 2011). What it finds is blurred by the rounding of
the sum. But every element determines its update to within half a step of its type, and small ones have small steps. So
the factors are known far better than that: alternately for each row of one factor and then of the other, a few Newton
steps lead into the polytope of what the elements allow.

All functions take arrays of numpy or of torch, and their module as ``xp``.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

ANYTHING = 1e30
"""Half the length of the interval of an element that determines nothing, such as one that is not finite."""
OVERSAMPLE = 8
"""Columns of random numbers beyond the expected rank."""

_POWER_STEPS = 2
_ABOVE_NOISE = 1.3  # the singular values of noise lie close together
_ROUNDS = 30
_CENTRED_ROUNDS = 2
_SETTLED = 9  # the round after which noise and update differ clearly
_INSIDE = 0.003  # weight of elements that are in their interval already: keeps the systems regular
_AIM = 0.6  # of the interval: what is aimed at its middle needs less precise factors
_BLOCK = 1 << 20
_WORK = 2e10  # multiplications that a search may take: some seconds
_PATIENCE = 3  # rounds in a row in which no fewer elements miss
_WORKSPACE = 1 << 26


@dataclass(frozen=True, slots=True)
class Intervals:
    """What is known of a rounded update, as arrays of [rows, columns] in float32.

    Attributes:
        centre: The middle of what each element allows; zero if it allows anything.
        half: Half the length of the interval; ``ANYTHING`` if an element allows anything.
    """

    centre: Any
    half: Any

    @property
    def T(self) -> Intervals:  # noqa: N802 - as arrays call it
        """The update with rows and columns exchanged."""
        return Intervals(self.centre.T, self.half.T)


def find_range(xp: Any, update: Intervals, start: Any) -> tuple[Any, Any, float]:
    """Return factors of the part that stands out of the noise, and the largest singular values of noise.

    Args:
        xp: numpy or torch.
        update: What to factor.
        start: Random numbers of [columns, rank that is expected at most + ``OVERSAMPLE``], of ``centre``'s type.

    Returns:
        Balanced factors of [rows, rank] and [rank, columns] in float64, and a singular value.
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
    """Return factors whose product lies within as many intervals as a bounded search finds.

    Args:
        xp: numpy or torch.
        update: The intervals.
        left: First guess of [rows, rank], float64.
        right: First guess of [rank, columns], float64.
        noise: Of the first guess; parts of the update that shrink far below it were noise themselves.
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
    """Return balanced factors without the parts whose singular value is less, one of them at least."""
    (outer, one), (inner, other) = xp.linalg.qr(left), xp.linalg.qr(right.T)
    rotate, values, turn = xp.linalg.svd(one @ other.T, full_matrices=False)
    rank = max(1, int((values > least).sum()))
    root = values[:rank] ** 0.5
    return (outer @ rotate[:, :rank]) * root, root[:, None] * (turn[:rank] @ inner.T)


def improve(xp: Any, update: Intervals, left: Any, right: Any, aim: float = _AIM) -> tuple[Any, int]:
    """Return ``left`` after one Newton step for each of its rows, towards the intervals' inner part ``aim``.

    Also returns how many elements lay outside of that part before the step.
    """
    rank, columns = right.shape
    upper = [(i, j) for i in range(rank) for j in range(i, rank)]
    rows, others = [i for i, _ in upper], [j for _, j in upper]
    squares = (right[rows] * right[others]).T
    step = max(1, _BLOCK // max(columns, rank * rank))
    parts, misses = [], 0
    for at in range(0, left.shape[0], step):
        part = left[at : at + step]
        missed, weights = _missed(xp, update, slice(at, at + step), part @ right, aim)
        misses += int((missed != 0).sum())
        packed = weights @ squares
        normal = xp.zeros((part.shape[0], rank, rank), dtype=packed.dtype, **_place(packed))
        normal[:, rows, others] = packed
        normal[:, others, rows] = packed
        diagonal = normal[:, range(rank), range(rank)]
        normal[:, range(rank), range(rank)] = diagonal * (1 + 1e-12) + 1e-12 * diagonal.mean() + 1e-300
        parts.append(part + xp.linalg.solve(normal, ((weights * missed) @ right.T)[..., None])[..., 0])
    return xp.concatenate(parts), misses


def _missed(xp: Any, update: Intervals, rows: slice, product: Any, aim: float) -> tuple[Any, Any]:
    """Return by how much a product lies outside of the intervals, and the elements' weights."""
    centre, half = _wide(update.centre[rows]), _wide(update.half[rows])
    off = centre - product
    missed = off - xp.clip(off, -aim * half, aim * half)
    return missed, xp.where(missed != 0, 1.0, _INSIDE) / half**2


def _wide(values: Any) -> Any:
    return values.double() if hasattr(values, "double") else values.astype("f8")


def _place(values: Any) -> dict[str, Any]:
    return {"device": values.device} if hasattr(values, "double") else {}
