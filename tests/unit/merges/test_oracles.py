"""Other implementations of the same methods, where they are installed, come to the same values."""

import pytest
import torch
from peers import mergekit, module, near, ours

from git_theta_ext.interfaces import Piece, Trim
from git_theta_ext.registry import find_merge
from git_theta_plugins.merges import breadcrumbs, dare, della

SHAPE = (24, 17)


def inputs(kind, count=2, shape=SHAPE):
    """Return a base and branches: normal ones, ones of many equals, or ones that are hard."""
    generator = torch.Generator().manual_seed(11)
    base = torch.randn(shape, generator=generator)
    common = 0.1 * torch.randn(shape, generator=generator)
    branches = [base + common + 0.1 * torch.randn(shape, generator=generator) for _ in range(count)]
    if kind == "bfloat16":
        return base.bfloat16().float(), [branch.bfloat16().float() for branch in branches]
    if kind == "opposed":  # one undoes what the other did
        branches[1] = 2 * base - branches[0]
    if kind == "equal":
        branches = [branches[0]] * count
    if kind == "untouched":
        branches[1] = base
    return base, branches


KINDS = ["normal", "bfloat16", "opposed", "equal", "untouched"]


@pytest.mark.parametrize("kind", KINDS)
class TestMergekit:
    @pytest.mark.parametrize("weights", [(1.0, 1.0), (0.7, 0.3)])
    def test_linear(self, kind, weights):
        _, branches = inputs(kind)
        expected = mergekit("linear", None, branches, weight=list(weights))
        near(ours("average", None, branches, weights), expected)

    @pytest.mark.parametrize("scale", [1.0, 0.5])
    def test_task_arithmetic(self, kind, scale):
        base, branches = inputs(kind, 3)
        expected = mergekit("task_arithmetic", base, branches, weight=1.0, **{"lambda": scale}, normalize=False)
        near(ours("task_arithmetic", base, branches, **{"lambda": scale}), expected)

    def test_slerp(self, kind):
        base, branches = inputs(kind)
        near(ours("slerp", None, [base, branches[0]], t=0.3), mergekit("slerp", base, branches[:1], t=0.3))

    def test_nuslerp(self, kind):
        base, branches = inputs(kind)
        if kind == "opposed":
            pytest.skip("no arc is shortest between opposite vectors")
        expected = mergekit("nuslerp", base, branches, weight=[0.7, 0.3])
        near(ours("nuslerp", base, branches, (0.7, 0.3)), expected)

    @pytest.mark.parametrize("count", [2, 3])
    def test_multislerp(self, kind, count):
        base, branches = inputs(kind, count)
        if kind == "opposed" and count == 2:
            pytest.skip("theirs goes the way that rounding points to")
        near(ours("multislerp", base, branches), mergekit("multislerp", base, branches, weight=1.0))

    @pytest.mark.parametrize("count", [2, 3])
    def test_karcher(self, kind, count):
        _, branches = inputs(kind, count)
        near(ours("karcher", None, branches), mergekit("karcher", None, branches))

    @pytest.mark.parametrize("count", [2, 3])
    def test_model_stock(self, kind, count):
        base, branches = inputs(kind, count)
        if kind == "opposed":
            pytest.skip("theirs is not held between 0 and 1")
        near(ours("model_stock", base, branches), mergekit("model_stock", base, branches, filter_wise=False))

    @pytest.mark.parametrize(("density", "gamma"), [(0.9, 0.01), (0.5, 0.1), (1.0, 0.0)])
    def test_breadcrumbs(self, kind, density, gamma):
        base, branches = inputs(kind)
        if kind == "bfloat16":
            pytest.skip("which of equals are dropped differs")
        expected = mergekit("breadcrumbs", base, branches, weight=1.0, density=density, gamma=gamma, normalize=False)
        near(ours("breadcrumbs", base, branches, density=density, gamma=gamma), expected)

    @pytest.mark.parametrize("density", [0.2, 0.5, 1.0])
    def test_ties(self, kind, density):
        base, branches = inputs(kind, 3)
        if kind == "bfloat16":
            pytest.skip("which of equals are dropped differs")
        weights = (0.5, 1.0, 2.0)
        expected = mergekit("ties", base, branches, weight=list(weights), density=density, normalize=True)
        trims = []
        for branch in branches:
            bits = (branch - base).abs().reshape(-1).view(torch.int32).sort(descending=True).values
            trims.append(Trim(int(bits[max(1, int(bits.numel() * density)) - 1]), 1 << 62))
        method = find_merge("ties")
        options = {name: option.default for name, option in method.contract.options.items()}
        near(method(Piece("w", base, tuple(branches), options, weights, tuple(trims), 1)).value, expected)


@pytest.mark.parametrize("kind", ["normal", "bfloat16", "equal"])
class TestFusionBench:
    @pytest.mark.parametrize("count", [2, 3])
    def test_iso_c(self, kind, count):
        oracle = module("fusion_bench.method.isotropic_merging.iso_utils")
        base, branches = inputs(kind, count)
        expected = oracle.iso_c([{"w": branch - base} for branch in branches], accelerator="cpu")["w"]
        near(ours("iso_c", base, branches), base + expected, 2e-5)

    @pytest.mark.parametrize("count", [2, 3])
    def test_tsv_m(self, kind, count):
        oracle = module("fusion_bench.method.task_singular_vector.utils.TSVM_utils")
        base, branches = inputs(kind, count)
        if kind == "equal":
            pytest.skip("singular values that are there twice have no order")
        expected = oracle.compute_and_sum_svd_mem_reduction([{"w": b - base} for b in branches], accelerator="cpu")
        near(ours("tsv_m", base, branches), base + expected["w"], 2e-5)


class TestPeft:
    def test_ties(self):
        oracle = module("peft.utils.merge_utils")
        base, branches = inputs("normal", 3)
        expected = oracle.ties([branch - base for branch in branches], torch.ones(3), 0.2)
        trims = []
        for branch in branches:
            bits = (branch - base).abs().reshape(-1).view(torch.int32).sort(descending=True).values
            trims.append(Trim(int(bits[int(bits.numel() * 0.2) - 1]), 1 << 62))
        method = find_merge("ties")
        options = {name: option.default for name, option in method.contract.options.items()}
        near(method(Piece("w", base, tuple(branches), options, (1.0,) * 3, tuple(trims), 1)).value, base + expected)

    @pytest.mark.parametrize("election", ["linear", "ties"])
    def test_dare_with_our_masks(self, monkeypatch, election):
        oracle = module("peft.utils.merge_utils")
        base, branches = inputs("normal", 2)
        method = find_merge("dare")
        options = {name: option.default for name, option in method.contract.options.items()}
        options |= {"density": 0.5, "election": election}
        found = method(Piece("w", base, tuple(branches), options, (0.6, 0.4), keys=(3, 4)))
        vectors = [branch - base for branch in branches]
        masked = iter([dare.dropped(vector.clone(), key, 0, 0.5) for vector, key in zip(vectors, (3, 4), strict=True)])
        monkeypatch.setattr(oracle, "prune", lambda *_args, **_kwargs: next(masked))
        if election == "linear":
            expected = oracle.dare_linear(vectors, torch.tensor([0.6, 0.4]), 0.5)
            near(found, base + expected)
        else:
            equal = method(Piece("w", base, tuple(branches), options, (1.0, 1.0), keys=(3, 4)))
            near(equal, base + oracle.dare_ties(vectors, torch.ones(2), 0.5))


def test_della_keeps_what_its_definition_says():
    row = torch.tensor([[3.0, -1.0, 2.0, 0.0, -4.0]])
    probabilities = della.keeping(row, 0.5, 0.2)
    torch.testing.assert_close(probabilities, torch.tensor([[0.6, 0.4, 0.5, 0.3, 0.7]]))
    assert della.keeping(torch.ones(1), 0.5, 0.2).tolist() == [0.5]


def test_della_keeps_each_element_as_often_as_its_probability_says():
    base, branch = torch.zeros(4000, 5), torch.tensor([[5.0, 4, 3, 2, 1]]).expand(4000, 5).contiguous()
    method = find_merge("della")
    options = {name: option.default for name, option in method.contract.options.items()} | {"density": 0.5}
    found = method(Piece("w", base, (branch,), options, (1.0,), keys=(1,)))
    torch.testing.assert_close(
        (found != 0).double().mean(0), torch.tensor([0.65, 0.575, 0.5, 0.425, 0.35]).double(), rtol=0, atol=0.03
    )
    torch.testing.assert_close(found.mean(0), branch[0], rtol=0.1, atol=0)


def test_breadcrumbs_drop_outliers_before_noise():
    vector = torch.tensor([10.0, -9, 1, 2, -3, 4, 5, -6, 7, 8])
    kept = breadcrumbs.masked(vector.clone(), 0.5, 0.2)
    assert kept.tolist() == [0, 0, 0, 0, 0, 4, 5, -6, 7, 8]
    assert breadcrumbs.masked(vector.clone(), 1.0, 0.2).tolist() == vector.tolist()
