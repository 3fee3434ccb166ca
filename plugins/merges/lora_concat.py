"""Exact merge of LoRAs: concatenates their factors, so that ranks add up (https://arxiv.org/abs/2106.09685)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from git_theta_ext.interfaces import MergeContract, Pair, astype

from ._pairs import COMBINE, stacked

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence


def _numbers(shape: Sequence[int], _branches: int) -> float:
    outputs, inputs, ranks = shape
    return 5 * ranks * (outputs + inputs)


class LoraConcat:
    """Computes the weighted mean, or sum, of the updates without loss."""

    name = "lora_concat"
    contract = MergeContract(
        needs_base=False,
        symmetric=False,
        granularity="pair",
        options={"combine": COMBINE},
        weighted=True,
        arrays=True,
        scratch=_numbers,
        reference="https://arxiv.org/abs/2106.09685",
    )

    def rank(self, ranks: Sequence[int], sides: tuple[int, int], options: Mapping[str, float | str]) -> int:  # noqa: ARG002
        """Return the sum of the ranks."""
        return sum(ranks)

    def __call__(
        self, branches: Sequence[Pair], weights: Sequence[float], options: Mapping[str, float | str]
    ) -> tuple[Pair, float]:
        """Merge the pairs; see ``git_theta_ext.interfaces.PairMethod``."""
        b, a = stacked(branches, weights, options["combine"])
        kind = branches[0].a.dtype
        return Pair(astype(a, kind), astype(b, kind), 1.0), 0.0


METHOD = LoraConcat()
