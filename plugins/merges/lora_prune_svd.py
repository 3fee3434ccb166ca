"""Merge of LoRAs by TIES or DARE on their products, reduced to a rank (https://arxiv.org/abs/2306.01708)."""

from __future__ import annotations

from hashlib import blake2b
from typing import TYPE_CHECKING

from git_theta_ext.interfaces import MergeContract, Option, Pair, array_namespace, astype

from . import _random
from ._arrays import clear, divide, largest
from ._elect import TIES, agreeing_mean, election
from ._pairs import COMBINE, MEAN, divisor_of, reduced, reduced_rank, same_weight
from ._spectral import svd
from ._vectors import total, weighted

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from git_theta_ext.interfaces import Array

_MAGNITUDE, _RANDOM = "magnitude", "random"


def _numbers(shape: Sequence[int], branches: int) -> float:
    outputs, inputs, _ = shape
    return outputs * inputs * (2 * branches + 11)


class LoraPruneSvd:
    """Multiplies the factors of each LoRA, prunes the products, combines them, and decomposes the result.

    A product keeps its elements of the largest magnitude, or random ones, divided by the density. What is left is
    added, or elects signs as TIES does. With ``combine`` sum, this is ``ties_svd``, ``dare_ties_svd``,
    ``dare_linear_svd`` and ``magnitude_prune_svd`` of PEFT. Random numbers depend on the factors and the seed.
    """

    name = "lora_prune_svd"
    contract = MergeContract(
        needs_base=False,
        symmetric=False,
        granularity="pair",
        options={
            "rank": Option(0, 0, 1 << 20, whole=True),
            "density": Option(0.2, 1e-3, 1.0),
            "prune": Option(_MAGNITUDE, choices=(_MAGNITUDE, _RANDOM)),
            "election": election(TIES),
            "combine": COMBINE,
            "seed": _random.SEED,
        },
        weighted=True,
        exact=False,
        arrays=True,
        scratch=_numbers,
        reference="https://arxiv.org/abs/2306.01708",
    )

    def rank(self, ranks: Sequence[int], sides: tuple[int, int], options: Mapping[str, float | str]) -> int:
        """Return the requested rank, as far as the weight can have it."""
        return reduced_rank(ranks, sides, options, min(sides))

    def __call__(
        self, branches: Sequence[Pair], weights: Sequence[float], options: Mapping[str, float | str]
    ) -> tuple[Pair, float]:
        """Merge the pairs; see ``git_theta_ext.interfaces.PairMethod``."""
        same_weight(branches)
        products = [_pruned(pair, options) for pair in branches]
        if options["election"] == TIES:
            shares = [abs(weight) if options["combine"] == MEAN else 1.0 for weight in weights]
            update = agreeing_mean(products, weights, shares)
        else:
            update = divide(total(weighted(products, tuple(weights))), divisor_of(weights, options["combine"]))
        ranks, sides = [pair.a.shape[0] for pair in branches], (update.shape[1], update.shape[0])
        return reduced(*svd(update), self.rank(ranks, sides, options), branches[0].a.dtype)


def _pruned(pair: Pair, options: Mapping[str, float | str]) -> Array:
    """Return the product of two factors in float64, with some elements set to zero."""
    xp = array_namespace(pair.a)
    density = float(options["density"])
    product = astype(pair.b, xp.float64) @ astype(pair.a, xp.float64)
    product *= pair.scale
    if options["prune"] == _MAGNITUDE:
        sizes = abs(product).reshape(-1)
        return clear(product, ~largest(sizes, int(density * len(sizes))).reshape(product.shape))
    drops = _random.uniform(_key(pair, int(options["seed"])), 0, product) >= density
    return divide(clear(product, drops), density)


def _key(pair: Pair, seed: int) -> int:
    """Return a key for random numbers that is the same on every device."""
    digest = blake2b(seed.to_bytes(8, "little"), digest_size=8)
    for factor in (pair.a, pair.b):
        digest.update((factor if hasattr(factor, "tobytes") else factor.cpu().numpy()).tobytes())
    return int.from_bytes(digest.digest(), "little")


METHOD = LoraPruneSvd()
