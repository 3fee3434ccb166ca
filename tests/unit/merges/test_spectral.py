"""Methods that decompose matrices, against their definitions and other implementations."""

import numpy as np
import pytest
import torch
from peers import module, near, ours

from git_theta_ext.errors import MergeError
from git_theta_plugins.merges import _spectral, actmat

METHODS = ["tsv_m", "iso_c", "knots", "actmat"]
SHAPES = [(40, 9), (9, 40), (16, 16), (1, 30), (30, 1), (1, 1)]


def drawn(*shape, seed=5):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64).float()


def inputs(shape=(24, 17), count=3, rank=None):
    """Return a base and branches; of a ``rank`` only its first rows are changed."""
    base = drawn(*shape)
    changes = [0.1 * drawn(*shape, seed=6 + number) for number in range(count)]
    for change in changes:
        change[shape[0] if rank is None else rank :] = 0
    return base, [base + change for change in changes]


def vectors(base, branches):
    return [(branch - base).double() for branch in branches]


@pytest.mark.parametrize("name", METHODS)
@pytest.mark.parametrize("shape", [(), (0,), (12,), (0, 3), (2, 3, 4), (4, 2, 1, 1)], ids=str)
def test_other_shapes_get_the_mean(name, shape):
    base, branches = drawn(*shape), [drawn(*shape, seed=seed) for seed in range(3)]
    near(ours(name, base, branches), sum(branches) / 3, 1e-6)


@pytest.mark.parametrize("name", METHODS)
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_the_base_stays_where_nothing_changed(name, shape):
    base = drawn(*shape)
    assert torch.equal(ours(name, base, [base, base]), base)


@pytest.mark.parametrize("name", ["tsv_m", "actmat", "knots"])
@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("rank", [None, 1])
def test_a_single_branch_is_taken(name, shape, rank):
    base, branches = inputs(shape, 1, rank)
    asked = {"density": 1.0} if name == "knots" else {}
    near(ours(name, base, branches, **asked), branches[0], 1e-6)


@pytest.mark.parametrize("name", METHODS)
def test_float64_keeps_its_width(name):
    base, branches = inputs((6, 5), 2)
    found = ours(name, base.double(), [branch.double() for branch in branches])
    assert (found.float() != found).any()
    near(found, ours(name, base, branches))


@pytest.mark.parametrize("name", ["iso_c", "tsv_m"])
@pytest.mark.parametrize("shape", [*SHAPES, (60, 40)], ids=str)
@pytest.mark.parametrize(("kind", "bound"), [(torch.float32, 2**-20), (torch.float64, 1e-9)], ids=str)
def test_arrays_give_what_tensors_give_but_for_rounding(name, shape, kind, bound):
    base, branches = inputs(shape, 3)
    base, branches = base.to(kind), [branch.to(kind) for branch in branches]
    expected = ours(name, base, branches)
    found = ours(name, base.numpy(), [branch.numpy() for branch in branches])
    assert isinstance(found, np.ndarray)
    largest_change = float((expected - base).abs().max())
    assert np.abs(found - expected.numpy()).max() <= bound * largest_change


@pytest.mark.parametrize("name", METHODS)
@pytest.mark.parametrize("shape", [(24, 17), (17, 24)], ids=str)
def test_rows_that_nobody_changed_stay_as_they_are(name, shape):
    base, branches = inputs(shape, 2, rank=3)
    found = ours(name, base, branches)
    near(found[3:], base[3:], 1e-12)
    assert ((found[:3] - base[:3]).abs() > 1e-3).any()


@pytest.mark.parametrize(("name", "option"), [("tsv_m", "alpha"), ("iso_c", "alpha"), ("actmat", "lambda")])
def test_what_is_added_can_be_scaled(name, option):
    base, branches = inputs()
    near(ours(name, base, branches, **{option: 0.5}) - base, 0.5 * (ours(name, base, branches) - base))


@pytest.mark.parametrize("name", METHODS)
def test_who_is_first_changes_nothing_but_rounding(name):
    base, branches = inputs()
    near(ours(name, base, branches), ours(name, base, branches[::-1]))


class TestIsoC:
    def test_all_singular_values_become_their_mean(self):
        base, branches = inputs()
        found, matrix = vectors(base, [ours("iso_c", base, branches)])[0], sum(vectors(base, branches))
        u, s, vt = torch.linalg.svd(matrix, full_matrices=False)
        near(torch.linalg.svdvals(found), s.mean().expand(17))
        near(found, u @ vt * s.mean())

    def test_values_of_zero_count_and_stay(self):
        base, branches = inputs((10, 8), 2, rank=2)
        found, matrix = vectors(base, [ours("iso_c", base, branches)])[0], sum(vectors(base, branches))
        mean = torch.linalg.svdvals(matrix).mean()
        near(torch.linalg.svdvals(found), torch.tensor([mean, mean, *[0] * 6]))


class TestTaskSingularVectors:
    def test_copies_give_the_first_components(self):
        base, branches = inputs((12, 9), 1)
        u, s, vt = torch.linalg.svd(vectors(base, branches)[0], full_matrices=False)
        near(ours("tsv_m", base, branches * 3), base + (u[:, :3] * s[:3]) @ vt[:3])

    def test_copies_but_for_rounding_do_too(self):
        base, branches = inputs((12, 9), 1)
        u, s, vt = torch.linalg.svd(vectors(base, branches)[0], full_matrices=False)
        close = [branches[0] + 1e-8 * drawn(12, 9, seed=seed).round() for seed in range(3)]
        assert not torch.equal(close[0], close[1])
        near(ours("tsv_m", base, close), base + (u[:, :3] * s[:3]) @ vt[:3], 1e-5)

    def test_a_branch_that_changed_nothing_does_not_matter(self):
        base, branches = inputs((12, 9), 1)
        u, s, vt = torch.linalg.svd(vectors(base, branches)[0], full_matrices=False)
        near(ours("tsv_m", base, [*branches, base]), base + (u[:, :4] * s[:4]) @ vt[:4])

    def test_changes_that_do_not_meet_add_up(self):
        base, one, two = torch.zeros(6, 6), torch.zeros(6, 6), torch.zeros(6, 6)
        one[:3, :3], two[3:, 3:] = drawn(3, 3), drawn(3, 3, seed=6)
        near(ours("tsv_m", base, [one, two]), one + two)

    def test_more_branches_than_ranks_keep_one_component_each(self):
        base, branches = inputs((1, 30), 2)
        found = vectors(base, [ours("tsv_m", base, branches)])[0]
        assert found.norm() > 0.1 * vectors(base, branches)[0].norm()


def knots_by_definition(u, s, parts, density, weights):
    """Merge the aligned parts element by element."""
    kept = []
    for part in parts:
        sizes = sorted(part.abs().flatten().tolist(), reverse=True)
        least = sizes[min(len(sizes), int(len(sizes) * density) + 1) - 1]
        kept.append(torch.where(part.abs() >= least, part, 0.0) * s[:, None])
    merged = torch.zeros_like(kept[0])
    for place in range(merged.numel()):
        values = [part.flatten()[place].item() * weight for part, weight in zip(kept, weights, strict=True)]
        total = sum(values)
        agreeing = [number for number, value in enumerate(values) if value * total > 0]
        if agreeing:
            merged.view(-1)[place] = sum(values[n] for n in agreeing) / sum(weights[n] for n in agreeing)
    return u @ merged


class TestKnots:
    @pytest.mark.parametrize("shape", [(10, 6), (6, 10), (1, 8)], ids=str)
    @pytest.mark.parametrize("rank", [None, 1])
    @pytest.mark.parametrize(("density", "weights"), [(0.2, (1.0, 1.0)), (0.7, (0.3, 0.9))])
    def test_ties_runs_on_fusion_benchs_aligned_parts(self, shape, rank, density, weights):
        oracle = module("fusion_bench.method.knots.knots_utils")
        base, branches = inputs(shape, 2, rank)
        u, s, parts = oracle.subspace_alignment(vectors(base, branches))
        expected = knots_by_definition(u, s, parts, density, weights)
        near(ours("knots", base, branches, weights, density=density), base + expected)

    @pytest.mark.parametrize("count", [2, 5])
    def test_copies_of_one_model_are_that_model(self, count):
        base, branches = inputs(count=1)
        near(ours("knots", base, branches * count, density=1.0), branches[0])

    @pytest.mark.parametrize("shape", [(10, 6), (24, 17)], ids=str)
    def test_rounding_agrees_with_nobody(self, shape):
        # Each branch changed rows of its own, so that its part is zero, but for rounding, where the others' is not.
        base, (one, two) = inputs(shape, 2)
        one[shape[0] // 2 :], two[: shape[0] // 2] = base[shape[0] // 2 :], base[: shape[0] // 2]
        near(ours("knots", base, [one, two], density=1.0), one + two - base, 1e-6)
        near(ours("knots", base, [one, base, base], density=1.0), one, 1e-6)

    def test_signs_that_cancel_out_are_the_majoritys(self):
        tau = torch.tensor([[1.0, 2, 3, -4]])
        u, s, vt = torch.linalg.svd(torch.cat([tau, -tau], dim=1).double(), full_matrices=False)
        # The votes are as many for either sign: the definition says that it is the negative one.
        near(ours("knots", 0 * tau, [tau, -tau], density=1.0), u @ (-vt[:, :4].abs() * s))


class TestActMat:
    def test_it_solves_the_regression(self):
        base, branches = inputs((6, 9), 3)
        changes = vectors(base, branches)
        found = vectors(base, [ours("actmat", base, branches)])[0]
        left = sum((found - change) @ change.T @ change for change in changes)
        near(left / sum(change.norm() ** 3 for change in changes), 0 * left, 1e-5)

    def test_changes_of_different_inputs_add_up(self):
        base, one, two = torch.zeros(4, 7), torch.zeros(4, 7), torch.zeros(4, 7)
        one[:, :3], two[:, 3:] = drawn(4, 3), drawn(4, 4, seed=6)
        near(ours("actmat", base, [one, two]), one + two)

    @pytest.mark.parametrize("rank", [None, 2])
    def test_copies_of_one_model_are_that_model(self, rank):
        base, branches = inputs(count=1, rank=rank)
        near(ours("actmat", base, branches * 3), branches[0])

    def test_directions_below_the_cutoff_are_left_out(self):
        base, one, two = torch.zeros(4, 4), torch.diag(torch.tensor([8.0, 1, 0, 0])), torch.zeros(4, 4)
        one[2, 1], two[0, 1], two[3, 3] = 3.0, 1e-3, 1e-2
        kept = ours("actmat", base, [one, two], cutoff=1e-3)
        assert not kept[:, 3].any()
        near(kept[:, :3], ours("actmat", base, [one, two])[:, :3], 1e-6)
        near(ours("actmat", base, [one, two])[3, 3], torch.tensor(1e-2))

    def test_large_matrices_get_the_mean(self, monkeypatch):
        base, branches = inputs((4, 9), 2)
        assert (ours("actmat", base, branches) - sum(branches) / 2).abs().max() > 1e-3
        monkeypatch.setattr(actmat, "_LARGEST", 9)
        near(ours("actmat", base, branches), sum(branches) / 2)


class TestDecompositions:
    def test_the_nearest_orthogonal_matrix_is_found(self):
        matrix = drawn(5, 5).double()
        found = _spectral.orthogonal(matrix)
        near(found @ found.T, torch.eye(5))
        near(found.T @ matrix, (found.T @ matrix).T)  # what is left is symmetric: a polar decomposition

    def test_columns_that_are_the_same_share_their_direction(self):
        column = torch.tensor([[0.6], [0.8], [0.0]])
        near(_spectral.orthogonal(torch.cat([column, column], dim=1)), torch.cat([column, column], dim=1) / 2**0.5)

    @pytest.mark.parametrize("number", [0, 1, 3])
    def test_rank_counts_what_is_more_than_rounding(self, number):
        matrix = drawn(40, number).double() @ drawn(number, 30).double()
        assert _spectral.rank(_spectral.svd(matrix)[1], matrix.shape) == number

    @pytest.mark.parametrize(("function", "name"), [("svd", "svd"), ("pseudo_inverse", "pinv")])
    def test_what_does_not_converge_is_an_error_of_the_merge(self, monkeypatch, function, name):
        def fail(*_args, **_kwargs):
            raise torch.linalg.LinAlgError("failed")

        monkeypatch.setattr(torch.linalg, name, fail)
        with pytest.raises(MergeError, match="does not converge"):
            getattr(_spectral, function)(torch.eye(2))

    def test_what_does_not_converge_with_numpy_is_one_as_well(self, monkeypatch):
        def fail(*_args, **_kwargs):
            raise np.linalg.LinAlgError("failed")

        monkeypatch.setattr(np.linalg, "svd", fail)
        with pytest.raises(MergeError, match="does not converge"):
            _spectral.svd(np.eye(2))
