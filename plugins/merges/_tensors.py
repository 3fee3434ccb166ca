"""What is computed on CUDA devices otherwise than with numpy: with fewer operations on whole tensors, to the same bits.

Each operation reads and writes the memory of the device, and takes some microseconds to start.
"""

from __future__ import annotations

import struct
from itertools import groupby
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

    import torch

_ROWS = 8
"""Products that are computed at a time."""

_FEW = 1 << 10
"""If at most as many terms of each sum are left, those of all sums are added in the same operations."""


def scratch_of_products(branches: int) -> float:
    """Return the numbers for each element of a block that ``products`` holds; a float64 counts as two."""
    return 2 * branches + 3 * min(branches, _ROWS) + 4 + branches * branches / 1000


def trimmed(vector: torch.Tensor, bits: int) -> torch.Tensor:
    """Set float32 elements to zero whose magnitude, as an integer, is smaller than ``bits``, in place."""
    import torch

    if not bits:
        return vector
    (largest_dropped,) = struct.unpack("<f", struct.pack("<I", bits - 1))
    return torch.hardshrink(vector, largest_dropped, out=vector)


def elected(
    vectors: Sequence[torch.Tensor], weights: Sequence[float], majority: int, *, by_count: bool
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Combine the vectors that agree with the elected sign of each element; see ``elect``.

    Returns:
        The weighted mean, the sum of the elected signs, and the number of elements whose votes cancel out.
    """
    import torch

    ballots = [torch.sign(vector) for vector in vectors] if by_count else vectors
    total = ballots[0] + ballots[1] if len(ballots) > 1 else ballots[0]
    for ballot in ballots[2:]:
        total += ballot
    del ballots
    signs = torch.sign(total)
    del total
    votes, decided = signs.sum(dtype=torch.float64), torch.count_nonzero(signs)
    signs.add_(majority / 2).sign_()
    zero = signs.new_zeros(())  # what is added to zero is not -0
    weight = (vectors[0] * signs).gt_(0)
    value = torch.addcmul(zero, weight, vectors[0])
    if weights[0] != 1:
        weight *= weights[0]
    agree = torch.empty_like(weight) if len(vectors) > 1 else weight
    for vector, factor in zip(vectors[1:], weights[1:], strict=True):
        torch.mul(vector, signs, out=agree).gt_(0)
        value.addcmul_(agree, vector)  # the products are exact
        weight.add_(agree, alpha=factor)
    ties = torch.count_nonzero(weight) - decided
    return torch.addcdiv(zero, value, weight.clamp_(min=1e-30)), votes.to(torch.int64), ties


def products(blocks: Sequence[torch.Tensor], pairs: Sequence[tuple[int, int]]) -> torch.Tensor:
    """Return inner products of one-dimensional tensors in float64, added as ``fixed_sum`` does.

    Args:
        blocks: Tensors of one shape.
        pairs: The indices of the tensors of each product. Those with the same first one are neighbours, and their
            second ones ascend by one.
    """
    import torch

    rows = _widened(blocks)
    sums = []
    for one, group in groupby(pairs, lambda pair: pair[0]):
        others = [other for _, other in group]
        parts = torch.split(rows[others[0] : others[-1] + 1], _ROWS)
        sums += [_folded(part * rows[one], _FEW) for part in parts]
    last = _folded(torch.cat(sums), 1)
    return last[:, 0] if last.shape[1] else last.sum(1)


def combination(blocks: Sequence[torch.Tensor], factors: torch.Tensor) -> torch.Tensor:
    """Return a linear combination of one-dimensional tensors in float64, added in order to zero."""
    rows = _widened(blocks)
    rows *= factors[:, None]
    total = rows[0] + 0.0
    for row in rows[1:]:
        total += row
    return total


def _widened(blocks: Sequence[torch.Tensor]) -> torch.Tensor:
    """Return float64 copies as the rows of a matrix."""
    import torch

    rows = blocks[0].new_empty((len(blocks), len(blocks[0])), dtype=torch.float64)
    for row, block in zip(rows, blocks, strict=True):
        row.copy_(block)
    return rows


def _folded(sums: torch.Tensor, least: int) -> torch.Tensor:
    """Add the second half of the columns to the first, until at most so many are left."""
    while sums.shape[1] > least:
        half, odd = divmod(sums.shape[1], 2)
        folded = sums[:, :half] + sums[:, half : 2 * half]
        if odd:
            folded[:, 0] += sums[:, -1]
        sums = folded
    return sums
