"""peft merges to the same bits; which of equal magnitudes it keeps, and what it draws, is settled as we do it."""

import pytest
import torch
from cases import KINDS, cases, tensors
from peers import drawing, kept, module, needs, ours

import git_theta_ext
from git_theta_ext.interfaces import Pair
from git_theta_plugins.merges import lora_prune_svd

needs("peft")
KEYS = (3, 4, 5)
VOTES = {"total": "mass", "frequency": "count"}


@pytest.fixture
def peft(monkeypatch):
    oracle = module("peft.utils.merge_utils")
    monkeypatch.setattr(oracle.warnings, "warn", lambda *_: None)  # a density of 1 prunes nothing

    def topk(values, k, largest):
        assert largest
        order = values.argsort(descending=True, stable=True)[:k]
        return values[order], order

    monkeypatch.setattr(torch, "topk", topk)
    return oracle


def changes(base, branches):
    return [branch - base for branch in branches]


@pytest.mark.parametrize("kind", KINDS)
class TestSameBits:
    @pytest.mark.parametrize("votes", VOTES)
    @pytest.mark.parametrize("density", [0.2, 0.5, 1.0])
    def test_ties(self, peft, kind, density, votes):
        for base, branches in cases(kind):
            expected = base + peft.ties(changes(base, branches), torch.ones(len(branches)), density, votes)
            trims = kept(base, branches, int(base.numel() * density))
            assert torch.equal(ours("ties", base, branches, trims=trims, majority=VOTES[votes]), expected)

    @pytest.mark.parametrize("election", ["linear", "ties"])
    def test_dare(self, monkeypatch, peft, kind, election):
        for base, branches in cases(kind):
            # Their weights count after the election, ours before it.
            weights = (0.6, 0.4, 0.7)[: len(branches)] if election == "linear" else (1.0,) * len(branches)
            keys = KEYS[: len(branches)]
            found = ours("dare", base, branches, weights, keys=keys, election=election, density=0.3)
            with monkeypatch.context() as patch:
                drawing(patch, keys, shares=False)
                merged = getattr(peft, f"dare_{election}")(changes(base, branches), torch.tensor(weights), 0.3)
            assert torch.equal(found, base + merged)


@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind != "equal"])  # what all changed alike is taken
def test_ties_by_tensor_keeps_exactly_one_more_than_theirs(peft, kind):
    base, branches = tensors(kind, 3)
    found = git_theta_ext.merge(
        [{"w": branch} for branch in branches], "ties", base={"w": base}, scope="tensor", ties="exact", density=0.2
    )
    changed = [branch for branch in branches if not torch.equal(branch, base)]
    share = (int(base.numel() * 0.2) + 1.5) / base.numel()
    vectors = changes(base, changed)
    expected = base + peft.ties(vectors, torch.ones(len(vectors)), share)
    # Where votes cancel out ours asks what most of the tensor's signs are.
    tied = torch.stack([peft.prune(vector, share, "magnitude") for vector in vectors]).sum(0) == 0
    assert torch.equal(found["w"][~tied], expected[~tied])


def pairs(count):
    """Return factors of ranks 2, 3 and 4 with scales, of a weight of 7 outputs and 9 inputs."""
    drawn = torch.Generator().manual_seed(3)
    return [
        Pair(torch.randn(rank, 9, generator=drawn), torch.randn(7, rank, generator=drawn), 0.5 + rank)
        for rank in (2, 3, 4)[:count]
    ]


@pytest.mark.parametrize("count", [2, 3])
@pytest.mark.parametrize("density", [0.3, 1.0])
@pytest.mark.parametrize(
    ("name", "prune", "election"),
    [
        ("ties", "magnitude", "ties"),
        ("magnitude_prune", "magnitude", "linear"),
        ("dare_ties", "random", "ties"),
        ("dare_linear", "random", "linear"),
    ],
)
def test_products_of_loras_are_pruned_and_combined(monkeypatch, peft, name, prune, election, density, count):
    loras, weights = pairs(count), (0.6, 0.4, 0.7)[:count]
    method = lora_prune_svd.METHOD
    options = {name: option.default for name, option in method.contract.options.items()}
    options |= {"prune": prune, "election": election, "density": density, "combine": "sum", "seed": 5, "rank": 4}
    found, lost = method(loras, weights, options)
    products = [lora.scale * lora.b.double() @ lora.a.double() for lora in loras]
    with monkeypatch.context() as patch:
        drawing(patch, [lora_prune_svd._key(lora, 5) for lora in loras], shares=False)
        update = getattr(peft, name)(products, torch.tensor(weights, dtype=torch.float64), density)
    u, s, vt = torch.linalg.svd(update)
    torch.testing.assert_close(
        found.b @ found.a, ((u[:, :4] * s[:4]) @ vt[:4]).float(), rtol=0, atol=1e-5 * float(s[0])
    )
    assert lost == pytest.approx(float(s[4:].square().sum() / s.square().sum()), abs=1e-9)
