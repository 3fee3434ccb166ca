"""Inner products and linear combinations in float64, in a fixed order.

Only elementwise operations are used, which round alike everywhere: a reduction of torch's own adds in an order that
depends on the device and on the processor. Tensors are worked through in blocks, so that little of them is ever held in
float64.
"""

from __future__ import annotations

import math
from itertools import combinations_with_replacement
from typing import TYPE_CHECKING

from git_theta_ext.errors import MergeError

if TYPE_CHECKING:
    from collections.abc import Sequence

    import torch

    from git_theta_ext.interfaces import Scratch

_BLOCK = 1 << 20
"""Elements; a part of what results mean: another number gives other last bits."""


def scratch(vectors: int) -> Scratch:
    """Return what ``gram`` and ``combined`` hold beside so many tensors of the piece's size for each branch."""

    def numbers(shape: Sequence[int], branches: int) -> float:
        elements = math.prod(shape)
        return elements * vectors * branches + min(elements, _BLOCK) * (2 * branches + 6)

    return numbers


def fixed_sum(values: torch.Tensor) -> torch.Tensor:
    """Add along the first dimension in float64: the second half to the first, until one is left.

    Args:
        values: Of one dimension or more.

    Returns:
        A float64 tensor of one dimension less; zeros where there is nothing to add.
    """
    import torch

    sums = values.to(torch.float64)
    while len(sums) > 1:
        half = len(sums) // 2
        folded = sums[:half] + sums[half : 2 * half]
        if len(sums) % 2:
            folded[0] += sums[-1]
        sums = folded
    return sums[0] if len(sums) else sums.sum(0)


def _blocks(values: torch.Tensor) -> tuple[torch.Tensor, ...]:
    import torch

    return torch.split(values.reshape(-1), _BLOCK)


def _products(vectors: Sequence[torch.Tensor], pairs: Sequence[tuple[int, int]]) -> torch.Tensor:
    import torch

    sums = []
    for blocks in zip(*map(_blocks, vectors), strict=True):
        wide = [block.to(torch.float64) for block in blocks]
        sums.append(torch.stack([fixed_sum(wide[one] * wide[other]) for one, other in pairs]))
    return fixed_sum(torch.stack(sums))


def dot(one: torch.Tensor, other: torch.Tensor) -> torch.Tensor:
    """Return the inner product of two tensors of one shape, a float64 tensor of no dimension."""
    return _products((one, other), [(0, 1)])[0]


def gram(vectors: Sequence[torch.Tensor]) -> list[list[float]]:
    """Return the inner products of all tensors, which have one shape, with each other.

    Raises:
        MergeError: One is infinite.
    """
    numbers = range(len(vectors))
    pairs = list(combinations_with_replacement(numbers, 2))
    found = dict(zip(pairs, _products(vectors, pairs).tolist(), strict=True))
    if not all(map(math.isfinite, found.values())):
        raise MergeError("the numbers are so large that their squares are infinite", hint="merge it by average")
    return [[found[min(one, other), max(one, other)] for other in numbers] for one in numbers]


def combined(vectors: Sequence[torch.Tensor], factors: Sequence[float]) -> torch.Tensor:
    """Return the sum of tensors of one shape and type times a number each, added in their order and rounded once."""
    import torch

    result = torch.empty_like(vectors[0], memory_format=torch.contiguous_format)
    for room, *blocks in zip(*map(_blocks, (result, *vectors)), strict=True):
        total = torch.zeros_like(room, dtype=torch.float64)
        for block, factor in zip(blocks, factors, strict=True):
            total += block.to(torch.float64) * factor
        room.copy_(total)
    return result
