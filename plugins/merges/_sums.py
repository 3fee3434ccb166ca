"""Inner products and linear combinations in float64, in a fixed order.

Only elementwise operations are used, which round the same on every device: the reductions of libraries add in an
order that depends on the device and the CPU. Arrays are processed in blocks, so that only a small part is in float64.
"""

from __future__ import annotations

import math
from itertools import combinations_with_replacement
from typing import TYPE_CHECKING

from git_theta_ext.errors import MergeError
from git_theta_ext.interfaces import array_namespace, astype

from . import _tensors

if TYPE_CHECKING:
    from collections.abc import Sequence

    from git_theta_ext.interfaces import Array, Scratch

_BLOCK = 1 << 20
"""Number of elements; results depend on it, because another number gives other last bits."""


def scratch(vectors: int) -> Scratch:
    """Return the scratch of ``gram`` and ``combined``, plus some tensors of the piece's size for each branch."""

    def numbers(shape: Sequence[int], branches: int) -> float:
        elements = math.prod(shape)
        return elements * vectors * branches + min(elements, _BLOCK) * _tensors.scratch_of_products(branches)

    return numbers


def energies_scratch(elements: int, branches: int) -> float:
    """Return the numbers that ``energies`` holds, as ``MergeContract.scratch`` counts them."""
    return min(elements, _BLOCK) * (3 * branches + 1)


def fixed_sum(values: Array) -> Array:
    """Sum along the first dimension in float64, adding the second half to the first until one is left.

    Args:
        values: A tensor of at least one dimension.

    Returns:
        A float64 tensor with one dimension less; zeros if there is nothing to add.
    """
    sums = astype(values, array_namespace(values).float64, copy=False)
    while len(sums) > 1:
        half = len(sums) // 2
        folded = sums[:half] + sums[half : 2 * half]
        if len(sums) % 2:
            folded[0] += sums[-1]
        sums = folded
    return sums[0] if len(sums) else sums.sum(0)


def _blocks(values: Array) -> list[Array]:
    flat = values.reshape(-1)
    return [flat[start : start + _BLOCK] for start in range(0, max(len(flat), 1), _BLOCK)]


def _products(vectors: Sequence[Array], pairs: Sequence[tuple[int, int]]) -> Array:
    import numpy as np

    xp = array_namespace(vectors[0])
    if xp is not np:
        return fixed_sum(
            xp.stack([_tensors.products(blocks, pairs) for blocks in zip(*map(_blocks, vectors), strict=True)])
        )
    sums = []
    for blocks in zip(*map(_blocks, vectors), strict=True):
        wide = [astype(block, xp.float64, copy=False) for block in blocks]
        sums.append(xp.stack([fixed_sum(wide[one] * wide[other]) for one, other in pairs]))
    return fixed_sum(xp.stack(sums))


def dot(one: Array, other: Array) -> Array:
    """Return the inner product of two tensors of one shape, as a float64 tensor without dimensions."""
    return _products((one, other), [(0, 1)])[0]


def gram(vectors: Sequence[Array]) -> list[list[float]]:
    """Return the inner products of tensors of one shape with each other.

    Raises:
        MergeError: A product is infinite.
    """
    numbers = range(len(vectors))
    pairs = list(combinations_with_replacement(numbers, 2))
    products = dict(zip(pairs, _finite(vectors, pairs), strict=True))
    return [[products[min(one, other), max(one, other)] for other in numbers] for one in numbers]


def energies(vectors: Sequence[Array]) -> list[float]:
    """Return the squared norm of each tensor.

    Raises:
        MergeError: One is infinite.
    """
    return _finite(vectors, [(number, number) for number in range(len(vectors))])


def _finite(vectors: Sequence[Array], pairs: Sequence[tuple[int, int]]) -> list[float]:
    products: list[float] = _products(vectors, pairs).tolist()
    if not all(map(math.isfinite, products)):
        raise MergeError("the squares of its values overflow", hint="git theta resolve --method average")
    return products


def combined(vectors: Sequence[Array], factors: Sequence[float]) -> Array:
    """Return a linear combination of tensors of one shape and type, added in order and rounded once."""
    import numpy as np

    xp = array_namespace(vectors[0])
    result = xp.empty_like(vectors[0].reshape(-1))
    if xp is not np:
        scales = result.new_tensor(factors, dtype=xp.float64)
        for room, *blocks in zip(*map(_blocks, (result, *vectors)), strict=True):
            room[:] = _tensors.combination(blocks, scales)
        return result.reshape(vectors[0].shape)
    for room, *blocks in zip(*map(_blocks, (result, *vectors)), strict=True):
        total = xp.zeros_like(room, dtype=xp.float64)
        for block, factor in zip(blocks, factors, strict=True):
            total += astype(block, xp.float64) * factor
        room[:] = total
    return result.reshape(vectors[0].shape)
