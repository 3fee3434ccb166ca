"""Merge of LoRAs into one of a given rank, nearest to the mean of their products (https://arxiv.org/abs/2106.09685)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from git_theta_ext.interfaces import MergeContract, Option, Pair, array_namespace, astype

from ._pairs import COMBINE, reduced_rank, stacked
from ._spectral import svd

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence


def _numbers(shape: Sequence[int], _branches: int) -> float:
    outputs, inputs, ranks = shape
    return 10 * ranks * (outputs + inputs) + 20 * ranks * ranks


class LoraSvd:
    """Decomposes the combined update without computing its matrix, and keeps its largest singular values.

    Both concatenated factors are decomposed by QR, and the small core between them by SVD, in float64. Each factor gets
    the square roots of the singular values. A rank of 0 means the largest rank of the branches.
    """

    name = "lora_svd"
    contract = MergeContract(
        needs_base=False,
        symmetric=False,
        granularity="pair",
        options={"rank": Option(0, 0, 1 << 20, whole=True), "combine": COMBINE},
        weighted=True,
        exact=False,
        arrays=True,
        scratch=_numbers,
        reference="https://arxiv.org/abs/2106.09685",
    )

    def rank(self, ranks: Sequence[int], sides: tuple[int, int], options: Mapping[str, float | str]) -> int:
        """Return the requested rank, as far as the update can have it."""
        return reduced_rank(ranks, sides, options, sum(ranks))

    def __call__(
        self, branches: Sequence[Pair], weights: Sequence[float], options: Mapping[str, float | str]
    ) -> tuple[Pair, float]:
        """Merge the pairs; see ``git_theta_ext.interfaces.PairMethod``."""
        b, a = stacked(branches, weights, options["combine"])
        xp = array_namespace(b)
        outer, left = xp.linalg.qr(b)
        inner, right = xp.linalg.qr(a.T)
        u, s, vt = svd(left @ right.T)
        ranks, sides = [pair.a.shape[0] for pair in branches], (a.shape[1], b.shape[0])
        rank = self.rank(ranks, sides, options)
        root = xp.sqrt(s[:rank])
        new_b, new_a = outer @ (u[:, :rank] * root), (vt[:rank] * root[:, None]) @ inner.T
        energy = float((s * s).sum())
        lost = float((s[rank:] * s[rank:]).sum()) / energy if energy else 0.0
        kind = branches[0].a.dtype
        return Pair(astype(new_a, kind), astype(new_b, kind), 1.0), lost


METHOD = LoraSvd()
