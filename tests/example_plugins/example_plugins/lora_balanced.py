"""Sum of LoRA updates, scaled so that the sum of unrelated updates is as large as one of them."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from git_theta_ext.interfaces import MergeContract, Pair

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence


def scratch(shape: Sequence[int], branches: int) -> float:
    """Return the numbers that a call holds, the result too: all factors in float64 twice, which count double."""
    outputs, inputs, ranks = shape
    return 8 * ranks * (outputs + inputs)


class LoraBalanced:
    """Merges products, not factors: the factors of two updates are put side by side, so their ranks add up."""

    name = "lora_balanced"
    contract = MergeContract(needs_base=False, symmetric=False, granularity="pair", weighted=True, scratch=scratch)

    def rank(self, ranks: Sequence[int], sides: tuple[int, int], options: Mapping[str, float | str]) -> int:
        """Return the rank of the result, which is needed before anything is computed."""
        return sum(ranks)

    def __call__(
        self, branches: Sequence[Pair], weights: Sequence[float], options: Mapping[str, float | str]
    ) -> tuple[Pair, float]:
        """Return the merged pair, and the share of the result that it lost: nothing."""
        import torch

        size = math.sqrt(sum(weight * weight for weight in weights)) or 1.0
        factors = [
            pair.b.double() * (pair.scale * weight / size) for pair, weight in zip(branches, weights, strict=True)
        ]
        kind = branches[0].a.dtype
        return Pair(torch.cat([pair.a for pair in branches]), torch.cat(factors, dim=1).to(kind), 1.0), 0.0


METHOD = LoraBalanced()
