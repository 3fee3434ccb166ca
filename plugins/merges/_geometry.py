"""Means and interpolations on the sphere. A tensor counts as one vector; arithmetic is in float64, in a fixed order."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from ._sums import dot, norm

if TYPE_CHECKING:
    from collections.abc import Sequence

    import torch

_TINY = 1e-8
_PARALLEL = 0.9995


def unit(vector: torch.Tensor) -> tuple[torch.Tensor, float]:
    """Return a vector's direction and norm; one that is almost nothing is left as it is."""
    import torch

    size = float(norm(vector))
    wide = vector.to(torch.float64)
    return (wide / size if size > _TINY else wide), size


def slerp(one: torch.Tensor, other: torch.Tensor, t: float) -> torch.Tensor:
    """Return the point at ``t`` of the arc from one vector to another, float64."""
    import torch

    cosine = float(dot(unit(one)[0], unit(other)[0]))
    first, second = 1 - t, t
    if abs(cosine) <= _PARALLEL:
        angle = math.acos(cosine)
        first, second = math.sin((1 - t) * angle) / math.sin(angle), math.sin(t * angle) / math.sin(angle)
    return one.to(torch.float64) * first + other.to(torch.float64) * second


def _shares(weights: Sequence[float]) -> list[float]:
    return [weight / sum(weights) for weight in weights]


def _combined(vectors: Sequence[torch.Tensor], factors: Sequence[float]) -> torch.Tensor:
    result = vectors[0] * factors[0]
    for vector, factor in zip(vectors[1:], factors[1:], strict=True):
        result += vector * factor
    return result


def tangent_mean(vectors: Sequence[torch.Tensor], weights: Sequence[float]) -> torch.Tensor:
    """Return the weighted mean of the directions in the plane that touches the sphere at their mean, float64.

    It has the weighted mean of the norms. Where the directions cancel out, the result is the weighted mean itself.
    """
    shares = _shares(weights)
    units, sizes = zip(*map(unit, vectors), strict=True)
    middle, size = unit(_combined(units, shares))
    if size <= _TINY:
        return _combined([vector.double() for vector in vectors], shares)
    tangents = [each - middle * float(dot(each, middle)) for each in units]
    step = _combined(tangents, shares)
    length = float(norm(step))
    if length > _TINY:
        middle = middle * math.cos(length) + step * (math.sin(length) / length)
    return middle.mul(math.fsum(share * each for share, each in zip(shares, sizes, strict=True)))


def karcher_mean(
    vectors: Sequence[torch.Tensor], weights: Sequence[float], iterations: int, tolerance: float
) -> torch.Tensor:
    """Return the Riemannian mean of the directions, with the weighted mean of the norms, float64.

    Vectors that are almost nothing are left out.
    """
    import torch

    found = [(*unit(vector), weight) for vector, weight in zip(vectors, weights, strict=True)]
    found = [each for each in found if each[1] > _TINY and each[2] > 0]
    if not found:
        return torch.zeros_like(vectors[0], dtype=torch.float64)
    shares = _shares([weight for _, _, weight in found])
    units = [direction for direction, _, _ in found]
    mean, size = unit(_combined(units, shares))
    if size <= _TINY:
        mean = units[0]
    for _ in range(iterations):
        steps = [_towards(mean, direction) for direction in units]
        step = _combined(steps, shares)
        length = float(norm(step))
        if length < tolerance:
            break
        mean, _ = unit(mean * math.cos(length) + step * (math.sin(length) / length))
    return mean.mul(math.fsum(share * size for share, (_, size, _) in zip(shares, found, strict=True)))


def _towards(mean: torch.Tensor, direction: torch.Tensor) -> torch.Tensor:
    """Return the arc from a mean to a direction, as a vector that touches the sphere."""
    cosine = max(-1.0, min(1.0, float(dot(mean, direction))))
    angle = math.acos(cosine)
    sine = math.sin(angle)
    return (direction - mean * cosine) * (angle / sine if sine > _TINY else 0.0)
