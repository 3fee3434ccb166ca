"""LoRA pairs are merged as products, never factor by factor."""

import numpy as np
import pytest
import torch

from git_theta_ext.errors import MergeError
from git_theta_ext.interfaces import Pair
from git_theta_plugins.merges.lora_concat import METHOD as CONCAT
from git_theta_plugins.merges.lora_prune_svd import METHOD as PRUNED
from git_theta_plugins.merges.lora_svd import METHOD as SVD

OUTPUTS, INPUTS = 14, 11


def drawn(ranks, kind=torch.float64, outputs=OUTPUTS, inputs=INPUTS):
    generator = torch.Generator().manual_seed(5)
    return [
        Pair(
            torch.randn((rank, inputs), generator=generator, dtype=kind),
            torch.randn((outputs, rank), generator=generator, dtype=kind),
            scale,
        )
        for rank, scale in zip(ranks, (2.0, 0.5, 1.25), strict=False)
    ]


def update(pair):
    return pair.scale * pair.b.double() @ pair.a.double()


def combined(pairs, weights, combine="mean"):
    products = sum(weight * update(pair) for pair, weight in zip(pairs, weights, strict=True))
    return products / (sum(weights) if combine == "mean" else 1)


def merged(method, pairs, weights=None, **asked):
    options = {name: option.default for name, option in method.contract.options.items()} | asked
    return method(pairs, weights or [1.0] * len(pairs), options)


def near(found, expected, tolerance=1e-12):
    torch.testing.assert_close(found, expected, rtol=tolerance, atol=tolerance)


WEIGHTS = [0.7, 0.3, 2.0]


@pytest.mark.parametrize("combine", ["mean", "sum"])
@pytest.mark.parametrize("ranks", [(3,), (2, 2), (1, 3, 4)], ids=str)
class TestBoth:
    def test_concatenation_is_the_combined_update(self, ranks, combine):
        pairs, weights = drawn(ranks), WEIGHTS[: len(ranks)]
        found, lost = merged(CONCAT, pairs, weights, combine=combine)
        near(update(found), combined(pairs, weights, combine))
        assert found.a.shape[0] == sum(ranks) == CONCAT.rank(ranks, (INPUTS, OUTPUTS), {})
        assert (found.scale, lost) == (1, 0)

    def test_svd_of_full_rank_is_the_combined_update(self, ranks, combine):
        pairs, weights = drawn(ranks), WEIGHTS[: len(ranks)]
        found, lost = merged(SVD, pairs, weights, combine=combine, rank=sum(ranks))
        near(update(found), combined(pairs, weights, combine))
        assert found.a.shape[0] == sum(ranks)
        assert lost == 0

    def test_svd_is_the_nearest_of_its_rank_and_tells_what_it_lost(self, ranks, combine):
        pairs, weights = drawn(ranks), WEIGHTS[: len(ranks)]
        expected = combined(pairs, weights, combine)
        for rank in range(1, sum(ranks)):
            found, lost = merged(SVD, pairs, weights, combine=combine, rank=rank)
            u, s, vt = torch.linalg.svd(expected)
            near(update(found), (u[:, :rank] * s[:rank]) @ vt[:rank], 1e-11)
            assert lost == pytest.approx(float((update(found) - expected).square().sum() / s.square().sum()), rel=1e-9)


@pytest.mark.parametrize("method", [CONCAT, SVD])
def test_averages_of_the_factors_are_something_else(method):
    pairs = drawn((3, 3))
    expected = combined(pairs, [1, 1])
    separately = (pairs[0].b * pairs[0].scale + pairs[1].b * pairs[1].scale) / 2 @ (pairs[0].a + pairs[1].a) / 2
    found, _ = merged(method, pairs, **({"rank": 6} if method is SVD else {}))
    near(update(found), expected)
    assert float((separately - expected).norm() / expected.norm()) > 0.3


@pytest.mark.parametrize("method", [CONCAT, SVD])
def test_factors_have_the_type_of_the_branches_and_are_rounded_once(method):
    found, _ = merged(method, drawn((2, 3), torch.float32), [0.1, 0.7])
    assert found.a.dtype == found.b.dtype == torch.float32
    exact, _ = merged(
        method, [Pair(p.a.double(), p.b.double(), p.scale) for p in drawn((2, 3), torch.float32)], [0.1, 0.7]
    )
    assert bool((found.a == exact.a.float()).all())
    assert bool((found.b == exact.b.float()).all())


@pytest.mark.parametrize(
    ("asked", "ranks", "sides", "rank"),
    [(0, (2, 5), (100, 100), 5), (3, (2, 5), (100, 100), 3), (50, (2, 5), (100, 100), 7), (50, (9, 9), (4, 100), 4)],
)
def test_rank_of_the_svd_is_the_one_asked_for_as_far_as_it_goes(asked, ranks, sides, rank):
    assert SVD.rank(ranks, sides, {"rank": asked}) == rank
    inputs, outputs = sides
    found, _ = merged(SVD, drawn(ranks, inputs=inputs, outputs=outputs), rank=asked)
    assert (found.a.shape, found.b.shape) == ((rank, inputs), (outputs, rank))


def test_more_ranks_than_the_weight_has_are_no_loss():
    pairs = drawn((9, 9), outputs=5, inputs=4)
    found, lost = merged(SVD, pairs)
    near(update(found), combined(pairs, [1, 1]))
    assert lost == 0


def test_singular_values_are_shared_out_evenly():
    found, _ = merged(SVD, drawn((2, 2)), rank=3)
    near(found.a @ found.a.T, found.b.T @ found.b)


@pytest.mark.parametrize("method", [CONCAT, SVD])
def test_updates_that_cancel_out_give_zero(method):
    pair = drawn((2,))[0]
    found, lost = merged(method, [pair, Pair(pair.a, -pair.b, pair.scale)])
    near(update(found), torch.zeros(OUTPUTS, INPUTS, dtype=torch.float64))
    assert 0 <= lost <= 1


def test_pairs_of_zeros_lose_nothing():
    nothing = Pair(torch.zeros(2, INPUTS), torch.zeros(OUTPUTS, 2), 1.0)
    found, lost = merged(SVD, [nothing, nothing], rank=1)
    assert float(update(found).abs().max()) == lost == 0


@pytest.mark.parametrize("method", [CONCAT, SVD])
def test_pairs_of_different_weights_are_refused(method):
    with pytest.raises(MergeError, match="different shapes"):
        merged(method, [*drawn((2,)), *drawn((2,), inputs=INPUTS + 1)])


@pytest.mark.parametrize("method", [CONCAT, SVD])
def test_a_mean_of_nothing_is_refused_and_a_sum_of_nothing_is_zero(method):
    with pytest.raises(MergeError, match="have weight 0"):
        merged(method, drawn((2, 2)), [0.0, 0.0])
    found, _ = merged(method, drawn((2, 2)), [0.0, 0.0], combine="sum")
    assert float(update(found).abs().max()) == 0


@pytest.mark.parametrize("kind", [torch.float32, torch.float64], ids=str)
@pytest.mark.parametrize("combine", ["mean", "sum"])
def test_concatenation_of_arrays_has_the_bits_of_tensors(kind, combine):
    tensors = drawn((2, 3, 1), kind)
    arrays = [Pair(pair.a.numpy(), pair.b.numpy(), pair.scale) for pair in tensors]
    weights, options = [0.1, 0.7, 3.0], {"combine": combine}
    expected, found = CONCAT(tensors, weights, options)[0], CONCAT(arrays, weights, options)[0]
    for one, other in ((expected.a, found.a), (expected.b, found.b)):
        assert isinstance(other, np.ndarray)
        assert one.numpy().dtype == other.dtype
        assert one.numpy().tobytes() == other.tobytes()


@pytest.mark.parametrize(("kind", "bound"), [(torch.float32, 2**-20), (torch.float64, 1e-9)], ids=str)
@pytest.mark.parametrize("ranks", [(3,), (2, 2), (1, 3, 4)], ids=str)
def test_svd_of_arrays_is_that_of_tensors_but_for_rounding(kind, bound, ranks):
    tensors, weights = drawn(ranks, kind), WEIGHTS[: len(ranks)]
    arrays = [Pair(pair.a.numpy(), pair.b.numpy(), pair.scale) for pair in tensors]
    (expected, lost), (found, lost_of_arrays) = merged(SVD, tensors, weights), merged(SVD, arrays, weights)
    assert found.a.dtype == found.b.dtype == expected.a.numpy().dtype
    near(update(Pair(torch.from_numpy(found.a), torch.from_numpy(found.b), 1.0)), update(expected), bound)
    assert lost_of_arrays == pytest.approx(lost, abs=1e-12)


@pytest.mark.parametrize("combine", ["mean", "sum"])
def test_pruning_nothing_and_adding_is_the_svd_of_the_combined_update(combine):
    pairs, weights = drawn((2, 3)), [0.7, 0.3]
    asked = {"combine": combine, "rank": 4}
    found, lost = merged(PRUNED, pairs, weights, density=1.0, election="linear", **asked)
    expected, expected_loss = merged(SVD, pairs, weights, **asked)
    near(update(found), update(expected), 1e-11)
    assert lost == pytest.approx(expected_loss, abs=1e-12)


def test_copies_of_a_lora_are_pruned_to_itself():
    pair = drawn((2,))[0]
    for combine in ("mean", "sum"):
        found, _ = merged(PRUNED, [pair, pair], density=1.0, combine=combine)
        near(update(found), update(pair), 1e-11)


def test_random_pruning_depends_on_the_seed_and_the_factors_alone():
    pairs = drawn((2, 3))
    one, again, other = (
        update(merged(PRUNED, pairs, prune="random", election="linear", density=0.5, seed=seed, rank=11)[0])
        for seed in (1, 1, 2)
    )
    assert torch.equal(one, again)
    assert not torch.equal(one, other)
    swapped = update(merged(PRUNED, pairs[::-1], prune="random", election="linear", density=0.5, seed=1, rank=11)[0])
    near(one, swapped, 1e-11)


def test_weights_may_be_negative_in_an_election():
    found, _ = merged(PRUNED, drawn((2, 3)), [1.0, -1.0], density=1.0)
    assert bool(found.a.isfinite().all() and found.b.isfinite().all())
