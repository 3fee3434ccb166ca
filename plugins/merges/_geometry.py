"""Means and interpolations on the sphere; each tensor counts as one vector.

The results lie in the span of the vectors, so they are given as a factor for each vector, and computed from the inner
products of the vectors (``_sums.gram``) alone.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from git_theta_ext.errors import MergeError

if TYPE_CHECKING:
    from collections.abc import Sequence

    Products = Sequence[Sequence[float]]

_TINY = 1e-8
"""A vector of at most this norm has no direction."""

_CANCELLED = 1e-5
"""A mean of directions of at most this norm is a rounding error: the directions cancel each other out."""

_PARALLEL = 0.9995


def shares(weights: Sequence[float]) -> list[float]:
    """Divide weights by their sum.

    Raises:
        MergeError: All weights are zero, which is possible for the sides that changed a parameter.
    """
    total = math.fsum(weights)
    if not total:
        raise MergeError("all sides that changed it have weight 0", hint="weights: [0.5, 0.5]")
    return [weight / total for weight in weights]


def cosines(products: Products) -> tuple[list[float], list[list[float]]]:
    """Return the norms of vectors and the cosines between them; cosines of vectors without a direction are 0."""
    sizes = [math.sqrt(row[number]) for number, row in enumerate(products)]
    scales = [1 / size if size > _TINY else 0.0 for size in sizes]
    angles = [
        [inner * one * other for inner, other in zip(row, scales, strict=True)]
        for row, one in zip(products, scales, strict=True)
    ]
    return sizes, angles


def slerp(products: Products, t: float) -> tuple[float, float]:
    """Return the factors of the point at ``t`` on the arc from one vector to another.

    Nearly parallel or opposite vectors are interpolated linearly.
    """
    cosine = cosines(products)[1][0][1]
    if abs(cosine) > _PARALLEL:
        return 1 - t, t
    angle = math.acos(cosine)
    return math.sin((1 - t) * angle) / math.sin(angle), math.sin(t * angle) / math.sin(angle)


def mean_direction(products: Products, weights: Sequence[float]) -> list[float]:
    """Return the factors of the weighted mean of the directions, with the weighted mean of the norms as its norm.

    If the directions cancel each other out, it is the weighted mean of the vectors.
    """
    sizes, angles = cosines(products)
    parts = shares(weights)
    length = _length(parts, angles)
    return _vectors(parts, sizes, parts, length) if length > _CANCELLED else parts


def karcher_mean(products: Products, weights: Sequence[float], iterations: int, tolerance: float) -> list[float]:
    """Return the factors of the Riemannian mean of the directions, with the weighted mean of the norms as its norm.

    Vectors without a direction count only for the norm. If the directions cancel each other out, the search starts from
    the first one.

    Args:
        products: Inner products of the vectors.
        weights: One weight for each vector.
        iterations: Maximum number of steps.
        tolerance: The search ends with a step of at most this angle in radians.
    """
    sizes, angles = cosines(products)
    parts = shares(weights)
    seen = [number for number, size in enumerate(sizes) if size > _TINY and parts[number] > 0]
    if not seen:
        return parts
    directed = shares([part if number in seen else 0.0 for number, part in enumerate(parts)])
    mean, length = directed, _length(directed, angles)
    if length <= _CANCELLED:
        mean, length = [float(number == seen[0]) for number in range(len(parts))], 1.0
    for _ in range(iterations):
        mean = [factor / length for factor in mean]
        step = _step(mean, directed, angles)
        size = _length(step, angles)
        if size <= tolerance:
            break
        mean = [math.cos(size) * at + math.sin(size) / size * by for at, by in zip(mean, step, strict=True)]
        length = _length(mean, angles)
    return _vectors(mean, sizes, parts, _length(mean, angles))


def _step(mean: Sequence[float], parts: Sequence[float], angles: Products) -> list[float]:
    """Return the mean of the arcs from a point to all directions, a tangent vector in that point.

    Opposite directions are left out, because no arc to them is the shortest.
    """
    step = [0.0] * len(mean)
    for number, part in enumerate(parts):
        cosine = max(-1.0, min(1.0, math.fsum(at * row[number] for at, row in zip(mean, angles, strict=True))))
        angle, sine = math.acos(cosine), math.sqrt(1 - cosine * cosine)
        if not part or (cosine < 0 and sine <= _CANCELLED):
            continue
        factor = part * (angle / sine if sine > _TINY else 1.0)
        step = [by - factor * cosine * at for by, at in zip(step, mean, strict=True)]
        step[number] += factor
    return step


def _length(point: Sequence[float], angles: Products) -> float:
    """Return the norm of a combination of directions."""
    numbers = range(len(point))
    terms = (point[one] * point[other] * angles[one][other] for one in numbers for other in numbers)
    return math.sqrt(max(0.0, math.fsum(terms)))


def _vectors(point: Sequence[float], sizes: Sequence[float], parts: Sequence[float], length: float) -> list[float]:
    """Turn a combination of directions into one of the vectors, with the mean of their norms as its norm."""
    scale = math.fsum(part * size for part, size in zip(parts, sizes, strict=True)) / length
    return [at * scale / size if size > _TINY else 0.0 for at, size in zip(point, sizes, strict=True)]
