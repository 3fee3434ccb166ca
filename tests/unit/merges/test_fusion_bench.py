"""fusion_bench, which holds the papers' code, merges to the same bits, or within stated units in the last place.

Where it decomposes or inverts matrices it is run in float64, so that only our rounding is left.
"""

import pytest
import torch
from cases import KINDS, SHAPES, cases, drawn, largest, ulps
from peers import kept, module, needs, ours

from git_theta_ext.interfaces import Piece, Trim
from git_theta_ext.registry import find_merge

needs("fusion_bench")
FILLED = [shape for shape in SHAPES if 0 not in shape]
ALL = 1 << 62


def vectors(base, branches):
    return [{"w": (branch - base).double()} for branch in branches]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("density", [20, 50, 90])
def test_ties_has_the_same_bits(kind, density):
    oracle = module("fusion_bench.method.ties_merging.ties_merging_utils")
    for base, branches in cases(kind, [shape for shape in FILLED if shape not in ((1, 1), (1,))]):
        changes = torch.stack([(branch - base).reshape(-1) for branch in branches])
        expected = oracle.ties_merging(changes, reset_thresh=density, merge_func="dis-mean")
        trims = kept(base, branches, int(base.numel() * (density / 100)) + 1)
        trims = tuple(Trim(trim.bits, ALL) for trim in trims)  # all that equal the smallest stay
        votes = int(elected(base, branches, trims).votes)
        found = elected(base, branches, trims, 1 if votes > 0 else -1).value
        assert torch.equal(found.reshape(-1), base.reshape(-1) + expected)


def elected(base, branches, trims, majority=1):
    method = find_merge("ties")
    options = {name: option.default for name, option in method.contract.options.items()}
    return method(Piece("w", base, tuple(branches), options, (1.0,) * len(branches), trims, majority))


@pytest.mark.parametrize("kind", KINDS)
def test_magmax_has_the_same_bits(kind):
    oracle = module("fusion_bench.method.magmax.magmax")
    for base, branches in cases(kind):
        changes = [branch - base for branch in branches]
        # Theirs takes the last of equal magnitudes, ours the positive one, so that the order does not matter.
        signed = [{"w": change} for change in sorted_by_sign(changes)]
        assert torch.equal(ours("magmax", base, branches), base + oracle._magmax_select(signed)["w"])


def sorted_by_sign(changes):
    """Return changes with those of each element in ascending order."""
    return list(torch.stack(changes).sort(dim=0).values)


@pytest.mark.parametrize("kind", KINDS)
def test_emr_has_the_same_bits(kind):
    oracle = module("fusion_bench.method.emr_merging.utils")
    for base, branches in cases(kind):
        unified, _, _ = oracle.emr_merge([{"w": branch - base} for branch in branches])
        assert torch.equal(ours("emr", base, branches), base + unified["w"])


# Numbers of all sizes have singular values below the rounding of others.
@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind != "spread"])
class TestDecompositions:
    def test_iso_c(self, kind):
        oracle = module("fusion_bench.method.isotropic_merging.iso_utils")
        for base, branches in cases(kind, FILLED):
            expected = oracle.iso_c(vectors(base, branches), accelerator="cpu")["w"]
            if base.dim() == 2:
                # Theirs also turns what nobody changed, along vectors that are arbitrary.
                u, s, vt = torch.linalg.svd(sum(branch - base for branch in branches).double(), full_matrices=False)
                there = s > s[:1] * 1e-12
                expected = within(u[:, there], vt[there], expected)
            assert ulps(ours("iso_c", base, branches), base + expected, largest(base, *branches)) <= 1

    def test_iso_cts(self, kind):
        oracle = module("fusion_bench.method.isotropic_merging.iso_utils")
        # Among equals and in place of what no branch changed, theirs has vectors that are arbitrary.
        shapes = [
            (40,),
            (2, 3, 4),
            *([(24, 17), (5, 60), (60, 2)] if kind not in ("equal", "opposed", "untouched") else []),
        ]
        for base, branches in cases(kind, shapes):
            if len(branches) <= min(base.shape):  # theirs has a negative number of common directions otherwise
                for common in (0.8, 0.5):
                    wide = [{"w": branch["w"].double()} for branch in vectors(base, branches)]
                    expected = oracle.iso_cts(wide, common, accelerator="cpu")["w"].float()
                    found = ours("iso_cts", base, branches, common=common)
                    assert ulps(found, base + expected, largest(base, *branches)) <= 1

    def test_tsv_m(self, kind):
        oracle = module("fusion_bench.method.task_singular_vector.utils.TSVM_utils")
        # It keeps nothing of more branches than ranks, and of a branch that changed nothing arbitrary vectors.
        shapes = [(40,), (2, 3, 4), *([(24, 17), (5, 60)] if kind != "untouched" else [])]
        for base, branches in cases(kind, shapes):
            expected = oracle.compute_and_sum_svd_mem_reduction(vectors(base, branches), accelerator="cpu")["w"]
            if kind in ("equal", "opposed") and base.dim() == 2:
                # In the place of vectors that are there twice it has others, which are arbitrary.
                most = min(base.shape) // len(branches)
                parts = [torch.linalg.svd((branch - base).double(), full_matrices=False) for branch in branches]
                columns, rows = (
                    torch.cat([u[:, :most] for u, _, _ in parts], 1),
                    torch.cat([v[:most] for _, _, v in parts]),
                )
                expected = within(basis(columns), basis(rows.T).T, expected)
            assert ulps(ours("tsv_m", base, branches), base + expected, largest(base, *branches)) <= 1


@pytest.mark.parametrize("kind", ["normal", "bfloat16", "few", "opposed", "untouched"])
def test_wudi(kind):
    oracle = module("fusion_bench.method.wudi.wudi")
    for base, branches in cases(kind, [(24, 17), (5, 40), (40,), (2, 3, 4)]):
        changed = [branch for branch in branches if not torch.equal(branch, base)]  # theirs divides by a norm of zero
        expected = oracle.wudi_merging(vectors(base, changed), accelerator="cpu", iter_num=60)["w"].detach()
        found = ours("wudi", base, changed, iterations=60)
        assert ulps(found, base + expected, largest(base, *branches)) <= 1


def basis(columns):
    """Return orthonormal columns of the same span."""
    u, s, _ = torch.linalg.svd(columns, full_matrices=False)
    return u[:, s > 1e-6]


def within(columns, rows, values):
    """Return the part of a matrix that lies in the span of some orthonormal columns and rows."""
    return columns @ (columns.T @ values @ rows.T) @ rows


def informed(kind, count, shape):
    """Return information of each branch: of one size, of very different ones, or none at all in places."""
    drawings = [drawn(shape, 30 + number) for number in range(count)]
    if kind == "spread":
        return tuple((10 ** (4 * each.clamp(-1, 1))) for each in drawings)
    if kind == "holes":
        return tuple(torch.where(each > 0, 1 + each, 0.0) for each in drawings)
    return tuple(1 + each.square() for each in drawings)


@pytest.mark.parametrize("known", ["normal", "spread", "holes"])
@pytest.mark.parametrize("kind", KINDS)
def test_fisher_is_correctly_rounded(kind, known):
    oracle = module("fusion_bench.method.fisher_merging.fisher_merging")
    for base, branches in cases(kind, FILLED):
        weights = (0.5, 2.0, 1.0)[: len(branches)]
        information = informed(known, len(branches), base.shape)
        expected = oracle.merging_with_fisher_weights(
            {"w": [branch.double() for branch in branches]},
            [{"w": each.double()} for each in information],
            torch.tensor(weights, dtype=torch.float64),
            False,
            1e-8 if known == "holes" else 0.0,  # theirs adds it, which matters where there is nothing else
        )["w"]
        found = ours("fisher", None, branches, weights, sidecars={"fisher": information})
        assert ulps(found, expected, *branches) <= (0.51 if known == "holes" else 0.5001)


def grams(kind, count, size):
    """Return Gram matrices: of many inputs, of inputs of very different sizes or that depend on each other, of few."""
    rows = [drawn((3 if kind == "few" else 4 * size, size), 40 + number).double() for number in range(count)]
    if kind == "sizes":
        rows = [each * torch.logspace(-3, 3, size, dtype=torch.float64) for each in rows]
    if kind == "dependent":
        rows = [each @ (torch.ones(size, size) + 0.1 * torch.eye(size)).double() for each in rows]
    return tuple(each.T @ each / len(each) for each in rows)


KNOWN = ["normal", "sizes", "dependent", "few"]


@pytest.mark.parametrize("alpha", [0.9, 0.1])
@pytest.mark.parametrize(
    ("kind", "known"),
    # Of huge weights and inputs of very different sizes the solution is beyond float32.
    [(kind, known) for kind in KINDS for known in KNOWN if (kind, known) != ("huge", "sizes")],
)
def test_regmean(kind, known, alpha):
    oracle = module("fusion_bench.method.regmean.regmean")
    # Theirs inverts inputs of very different sizes as they are, ours scaled: a condition of 10^12 shows in float64.
    most = 8 if known == "sizes" else 1
    for _, branches in cases(kind, [(24, 17), (300, 2), (2, 40), (1, 1)]):
        given = grams(known, len(branches), branches[0].shape[1])
        expected = oracle.merging_with_regmean_weights(
            {"l.weight": [branch.double() for branch in branches]}, [{"l": gram} for gram in given], alpha
        )["l.weight"]
        found = ours("regmean", None, branches, sidecars={"gram": given}, alpha=alpha)
        assert ulps(found, expected, largest(*branches, expected)) <= most
