"""mergekit merges to the same bits, or within stated units in the last place.

What it leaves open, which of equal magnitudes are kept, is settled as we do it; what it draws is what we draw.
"""

import pytest
import torch
from cases import KINDS, SHAPES, cases, drawn, largest, tensors, ulps
from peers import drawing, kept, mergekit, needs, ours

needs("mergekit")

WEIGHTS = (0.5, 1.0, 2.0)
KEYS = (3, 4, 5)
FILLED = [shape for shape in SHAPES if 0 not in shape]
SINGLE = [(1, 1), (1,)]
SORT, ARGSORT = torch.sort, torch.argsort

ROUNDED = 0.5001
"""Units by which a float64 is off that is rounded to float32, and off in its own last places."""


def stable(monkeypatch):
    """Let the first of equals count as the larger ones."""

    def sort(values, descending=False):
        assert not descending
        found = SORT(values.flip(0), stable=True)
        return type(found)((found.values, values.numel() - 1 - found.indices))

    monkeypatch.setattr(torch, "sort", sort)
    monkeypatch.setattr(torch, "argsort", lambda values, **how: ARGSORT(values, stable=True, **how))


@pytest.mark.parametrize("kind", KINDS)
class TestSameBits:
    @pytest.mark.parametrize("scale", [1.0, 0.3])
    def test_task_arithmetic(self, kind, scale):
        for base, branches in cases(kind):
            weights = WEIGHTS[: len(branches)]
            asked = {"lambda": scale}
            expected = mergekit("task_arithmetic", base, branches, weight=list(weights), normalize=False, **asked)
            assert torch.equal(ours("task_arithmetic", base, branches, weights, **asked), expected)

    @pytest.mark.parametrize("density", [0.2, 0.5, 1.0])
    def test_ties(self, monkeypatch, kind, density):
        stable(monkeypatch)
        for base, branches in cases(kind):
            weights = WEIGHTS[: len(branches)]
            expected = mergekit("ties", base, branches, weight=list(weights), density=density, normalize=True)
            trims = kept(base, branches, max(1, int(base.numel() * density)))
            assert torch.equal(ours("ties", base, branches, weights, trims), expected)

    @pytest.mark.parametrize(("density", "gamma"), [(0.9, 0.01), (0.5, 0.1), (0.3, 0.8), (1.0, 0.0)])
    def test_breadcrumbs(self, monkeypatch, kind, density, gamma):
        stable(monkeypatch)
        for base, branches in cases(kind):
            weights, asked = WEIGHTS[: len(branches)], {"density": density, "gamma": gamma}
            for election, theirs in (("linear", "breadcrumbs"), ("ties", "breadcrumbs_ties")):
                normalize = election == "ties"
                expected = mergekit(theirs, base, branches, weight=list(weights), normalize=normalize, **asked)
                assert torch.equal(ours("breadcrumbs", base, branches, weights, election=election, **asked), expected)

    @pytest.mark.parametrize("election", ["linear", "ties"])
    def test_dare(self, monkeypatch, kind, election):
        for base, branches in cases(kind):
            weights, keys = WEIGHTS[: len(branches)], KEYS[: len(branches)]
            found = ours("dare", base, branches, weights, keys=keys, election=election)
            drawing(monkeypatch, keys, shares=True)
            asked = {"density": 0.5, "rescale": False, "normalize": election == "ties"}
            assert torch.equal(found, mergekit(f"dare_{election}", base, branches, weight=list(weights), **asked))


@pytest.mark.parametrize("kind", KINDS)
class TestUnits:
    @pytest.mark.parametrize("weights", [(1.0, 1.0, 1.0), (0.7, 0.2, 0.1)])
    @pytest.mark.parametrize(("dtype", "most"), [(torch.float64, ROUNDED), (torch.float32, 2)])
    def test_linear(self, kind, weights, dtype, most):
        for _, branches in cases(kind):
            shares = weights[: len(branches)]
            expected = mergekit("linear", None, branches, dtype, weight=list(shares))
            assert ulps(ours("average", None, branches, shares), expected, *branches) <= most

    @pytest.mark.parametrize(("density", "epsilon"), [(0.5, 0.15), (0.3, 0.2)])
    def test_della(self, monkeypatch, kind, density, epsilon):
        # They compute a probability in another order, and multiply by its reciprocal. Of three dimensions their rows
        # are other ones, and rows of one element have no probability.
        for base, branches in cases(kind, [(24, 17), (300, 2), (2, 300), (40,)]):
            weights, keys = WEIGHTS[: len(branches)], KEYS[: len(branches)]
            asked = {"density": density, "epsilon": epsilon}
            for election, theirs in (("ties", "della"), ("linear", "della_linear")):
                found = ours("della", base, branches, weights, keys=keys, election=election, **asked)
                with monkeypatch.context() as patch:
                    stable(patch)
                    drawing(patch, keys, shares=True)
                    expected = mergekit(theirs, base, branches, weight=list(weights), rescale=False, **asked)
                assert ulps(found, expected, base, *branches) <= 8

    @pytest.mark.parametrize("weights", [(1.0, 1.0, 1.0), (0.7, -0.2, 0.1)])
    def test_linear_without_normalisation(self, kind, weights):
        for _, branches in cases(kind):
            shares = weights[: len(branches)]
            expected = mergekit("linear", None, branches, torch.float64, weight=list(shares), normalize=False)
            assert ulps(ours("linear", None, branches, shares), expected, *branches) <= ROUNDED

    @pytest.mark.parametrize("t", [1e-4, 0.05])
    def test_nearswap(self, kind, t):
        for base, branches in cases(kind):
            expected = mergekit("nearswap", base, branches[:1], torch.float64, t=t)
            assert ulps(ours("nearswap", None, [base, branches[0]], t=t), expected, base, branches[0]) <= 1

    def test_ram(self, kind):
        for base, branches in cases(kind):
            assert ulps(ours("ram", base, branches), mergekit("ram", base, branches), base, *branches) <= 2

    @pytest.mark.parametrize(("r", "alpha"), [(0.1, 0.2), (0.5, 2.0)])
    def test_ram_plus(self, kind, r, alpha):
        # Small changes, of which a branch alone changes some.
        for base, branches in cases(kind, FILLED):
            sparse = [base + (branch - base) * (drawn(base.shape, 60 + n) > 0) for n, branch in enumerate(branches)]
            expected = mergekit("ramplus_tl", base, sparse, r=r, alpha=alpha)
            assert ulps(ours("ram_plus", base, sparse, r=r, alpha=alpha), expected, base, *sparse) <= 3


# Theirs overflows in float32 where squares do.
ARCS = [(torch.float64, kind) for kind in KINDS] + [
    (torch.float32, kind) for kind in KINDS if kind not in ("huge", "spread")
]


@pytest.mark.parametrize(("dtype", "kind"), ARCS)
class TestUnitsOfTheLargest:
    """Of methods whose factors come from the whole tensor; in float64 no more than our own rounding is left."""

    @pytest.mark.parametrize("t", [0.1, 0.5])
    def test_slerp(self, dtype, kind, t):
        for base, branches in cases(kind):
            expected = mergekit("slerp", base, branches[:1], dtype, t=t)
            most = ROUNDED if dtype == torch.float64 else 2
            assert ulps(ours("slerp", None, [base, branches[0]], t=t), expected, largest(base, *branches)) <= most

    def test_nuslerp(self, dtype, kind):
        for shape in FILLED:
            base, branches = tensors(kind, 2, shape)
            expected = mergekit("nuslerp", base, branches, dtype, weight=[0.7, 0.3])
            if kind == "opposed":  # between opposite vectors theirs goes the way that rounding points to
                expected = base + 0.7 * (branches[0] - base) + 0.3 * (branches[1] - base)
            assert ulps(ours("nuslerp", base, branches, (0.7, 0.3)), expected, largest(base, *branches)) <= 1

    def test_multislerp(self, dtype, kind):
        for base, branches in cases(kind, FILLED):
            if kind == "denormal" and len(branches) > 2:
                continue  # theirs takes the mean for zero, and stops
            weights = (0.7, 0.2, 0.1)[: len(branches)]
            expected = mergekit("multislerp", base, branches, dtype, weight=list(weights))
            assert ulps(ours("multislerp", base, branches, weights), expected, largest(base, *branches)) <= 1

    def test_karcher(self, dtype, kind):
        for _, branches in cases(kind):
            found, expected = ours("karcher", None, branches), mergekit("karcher", None, branches, dtype)
            if kind == "denormal":  # theirs takes vectors below its tolerance for zero
                assert not expected.any()
                expected = ours("average", None, branches)
            assert ulps(found, expected, largest(*branches)) <= (ROUNDED if dtype == torch.float64 else 3)

    def test_model_stock(self, dtype, kind):
        # Theirs takes the product of two norms for at least 1e-6.
        for base, branches in cases(kind, [shape for shape in FILLED if kind != "spread" or shape not in SINGLE]):
            expected = mergekit("model_stock", base, branches, dtype, filter_wise=False)
            mean = sum(branch.double() for branch in branches) / len(branches)
            share = ((expected - base) * (mean - base)).sum() / (mean - base).square().sum().clamp_min(1e-300)
            if not 0 <= float(share) <= 1:  # theirs goes on beyond base and mean
                expected = mean if share > 0 else base
            assert ulps(ours("model_stock", base, branches), expected, largest(base, *branches)) <= 1


@pytest.mark.parametrize("kind", ["normal", "bfloat16", "few", "opposed", "equal"])
class TestSelections:
    """What decides about elements is computed in float64 by both, so that rounding does not."""

    @pytest.mark.parametrize("density", [1.0, 0.5, 0.1])
    def test_sce(self, monkeypatch, kind, density):
        for base, branches in cases(kind, FILLED):
            found = ours("sce", base, branches, density=density)
            with monkeypatch.context() as patch:
                patch.setattr(torch, "topk", first_of_equals)
                expected = mergekit("sce", base, branches, torch.float64, select_topk=density)
            assert ulps(found, expected, base, *branches) <= 3

    def test_arcee_fusion(self, kind):
        for base, branches in cases(kind, FILLED):
            expected = mergekit("arcee_fusion", base, branches[:1], torch.float64)
            assert ulps(ours("arcee_fusion", None, [base, branches[0]]), expected, base, branches[0]) <= 1


def first_of_equals(values, k, largest):
    assert largest
    order = values.argsort(descending=True, stable=True)[:k]
    return values[order], order
