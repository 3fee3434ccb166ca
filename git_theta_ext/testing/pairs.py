"""The conformance suite of methods that merge the factors of LoRAs."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from git_theta_ext.interfaces import Pair

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from git_theta_ext.interfaces import Array, PairMethod

_OUTPUTS, _INPUTS = 14, 11
_RANKS = ((2, 2), (1, 3), (4, 2, 3))
_LARGER = ((300, 40), (40, 300), (64, 64))
_SMALL = 1 << 10
"""Bytes that are of no consequence."""


class PairMethodTests:
    """What every method for the factors of LoRAs must do; subclass it and override ``method``.

    A class of tests for pytest::

        class TestMine(PairMethodTests):
            @pytest.fixture
            def method(self):
                return METHOD
    """

    @pytest.fixture
    def method(self) -> PairMethod:
        """The method under test; override it."""
        raise NotImplementedError

    def test_the_granularity_is_the_pair(self, method: PairMethod) -> None:
        """It distinguishes such methods from those of single tensors."""
        assert method.contract.granularity == "pair"

    @pytest.mark.parametrize("ranks", _RANKS, ids=str)
    @pytest.mark.parametrize("wide", [False, True])
    def test_the_result_has_the_announced_rank(self, method: PairMethod, ranks: tuple[int, ...], wide: bool) -> None:  # noqa: FBT001 - a parameter of a test
        """The merged file is laid out before anything is computed."""
        pairs = drawn_pairs(ranks, wide=wide)
        merged, lost = _merged(method, pairs)
        rank = method.rank(ranks, (_INPUTS, _OUTPUTS), defaults(method))
        assert merged.a.shape == (rank, _INPUTS)
        assert merged.b.shape == (_OUTPUTS, rank)
        assert merged.a.dtype == merged.b.dtype == pairs[0].a.dtype
        assert merged.scale == 1
        assert 0 <= lost <= 1

    def test_the_inputs_stay_as_they_are(self, method: PairMethod) -> None:
        """No input is modified."""
        pairs = drawn_pairs((2, 3))
        kept = [(pair.a.clone(), pair.b.clone()) for pair in pairs]
        _merged(method, pairs)
        assert all(bool((pair.a == a).all() and (pair.b == b).all()) for pair, (a, b) in zip(pairs, kept, strict=True))

    def test_the_result_is_reproducible(self, method: PairMethod) -> None:
        """Equal inputs give equal bits."""
        (one, _), (other, _) = (_merged(method, drawn_pairs((2, 3))) for _ in range(2))
        assert bool((one.a == other.a).all() and (one.b == other.b).all())

    def test_the_product_counts_and_not_the_factors(self, method: PairMethod) -> None:
        """Factors that are scaled against each other are the same update."""
        pairs = drawn_pairs((2, 3), wide=True)
        first = pairs[0]
        same = [Pair(first.a * 4, first.b / 8, first.scale * 2), *pairs[1:]]
        one, other = (_product(_merged(method, branches)[0]) for branches in (pairs, same))
        assert bool((one - other).abs().max() <= 1e-9 * one.abs().max())

    def test_finite_inputs_give_a_finite_result(self, method: PairMethod) -> None:
        """Equal updates, and updates that are zero, give no NaN."""
        first, second = drawn_pairs((2, 2))
        nothing = Pair(first.a, first.b * 0, first.scale)
        for pairs in ([first, first], [nothing, nothing], [nothing, second]):
            merged, lost = _merged(method, pairs)
            assert bool(merged.a.isfinite().all() and merged.b.isfinite().all())
            assert 0 <= lost <= 1

    @pytest.mark.parametrize(("outputs", "inputs"), _LARGER)
    @pytest.mark.parametrize("ranks", [(4, 4), (8, 2, 16, 4, 1)], ids=str)
    def test_a_call_holds_no_more_than_the_contract_says(
        self, method: PairMethod, outputs: int, inputs: int, ranks: tuple[int, ...]
    ) -> None:
        """Merges are planned by ``scratch``; the result counts."""
        from git_theta_ext.testing.memory import Watch

        pairs = drawn_pairs(ranks, outputs, inputs)
        with Watch([factor for pair in pairs for factor in (pair.a, pair.b)]) as watch:
            _merged(method, pairs)
        assert watch.peak <= 4 * method.contract.scratch((outputs, inputs, sum(ranks)), len(ranks)) + _SMALL


def drawn_pairs(
    ranks: Sequence[int], outputs: int = _OUTPUTS, inputs: int = _INPUTS, *, wide: bool = False
) -> list[Pair]:
    """Return pairs of normal numbers, float32 or (wide) float64, with different scales."""
    import torch

    generator = torch.Generator().manual_seed(5)
    kind = torch.float64 if wide else torch.float32
    return [
        Pair(
            torch.randn((rank, inputs), generator=generator, dtype=kind),
            torch.randn((outputs, rank), generator=generator, dtype=kind),
            0.5 + number,
        )
        for number, rank in enumerate(ranks)
    ]


def defaults(method: PairMethod) -> Mapping[str, float | str]:
    """Return the options of a method at their defaults."""
    return {name: option.default for name, option in method.contract.options.items()}


def _merged(method: PairMethod, pairs: Sequence[Pair]) -> tuple[Pair, float]:
    return method(pairs, [1.0] * len(pairs), defaults(method))


def _product(pair: Pair) -> Array:
    return pair.scale * pair.b.double() @ pair.a.double()
