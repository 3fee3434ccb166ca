"""Methods that need statistics of the branches: their defining properties."""

import numpy as np
import pytest
import torch

from git_theta_ext.errors import MergeError
from git_theta_ext.interfaces import Piece
from git_theta_plugins.merges.fisher import METHOD as FISHER
from git_theta_plugins.merges.mats import METHOD as MATS
from git_theta_plugins.merges.regmean import METHOD as REGMEAN

OUTPUTS, INPUTS = 7, 9
MATRICES = [REGMEAN, MATS]


def merged(method, branches, sidecars, base=None, weights=None, **asked):
    options = {name: option.default for name, option in method.contract.options.items()} | asked
    weights = weights or (1.0,) * len(branches)
    return method(Piece("w", base, tuple(branches), options, weights, sidecars=sidecars))


def numbers(*shape, seed=0):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def branches_of(count, kind=torch.float32):
    return [numbers(OUTPUTS, INPUTS, seed=10 + number).to(kind) for number in range(count)]


def inputs_of(count, kind="normal", rows=40):
    """Return each branch's inputs: normal ones, ones of very different sizes, or ones that depend on each other."""
    found = [numbers(rows, INPUTS, seed=20 + n) * numbers(INPUTS, seed=50 + n).exp() for n in range(count)]
    if kind == "sizes":
        return [each * torch.logspace(-4, 4, INPUTS, dtype=torch.float64) for each in found]
    if kind == "dependent":
        return [each @ (torch.ones(INPUTS, INPUTS) + 0.03 * torch.eye(INPUTS)).double() for each in found]
    return found


def grams_of(rows, kind=torch.float32):
    return tuple((each.T @ each / len(each)).to(kind) for each in rows)


def off(weight, branches, rows):
    """Return how far outputs are from those of each branch on its own inputs: what RegMean makes small."""
    return sum(
        float((each @ (weight.double() - branch.double()).T).square().sum())
        for branch, each in zip(branches, rows, strict=True)
    )


def near(found, expected, tolerance=1e-5):
    torch.testing.assert_close(found.double(), expected.double(), rtol=tolerance, atol=tolerance)


def mean_of(branches):
    return torch.stack([branch.double() for branch in branches]).mean(0)


class TestFisher:
    def test_each_element_is_the_mean_weighted_by_its_information(self):
        one, two = torch.tensor([1.0, 1, 1]), torch.tensor([5.0, 5, 5])
        information = (torch.tensor([1.0, 3, 0]), torch.tensor([1.0, 1, 1]))
        assert merged(FISHER, [one, two], {"fisher": information}).tolist() == [3, 2, 5]

    def test_of_what_no_branch_knows_anything_it_is_the_weighted_mean(self):
        one, two = torch.tensor([1.0, 1]), torch.tensor([5.0, 5])
        information = (torch.tensor([0.0, 1e-20]), torch.tensor([1e-30, 0]))
        assert merged(FISHER, [one, two], {"fisher": information}, weights=(3.0, 1.0)).tolist() == [2, 2]

    def test_minimises_the_sum_of_squares_that_the_information_weighs(self):
        branches, information = branches_of(3), tuple(numbers(OUTPUTS, INPUTS, seed=n).square() for n in range(3))

        def cost(weight):
            pairs = zip(branches, information, strict=True)
            return sum(float((known * (weight - branch.double()).square()).sum()) for branch, known in pairs)

        found = merged(FISHER, branches, {"fisher": information}).double()
        assert cost(found) < min(cost(found + 1e-3 * numbers(OUTPUTS, INPUTS, seed=n)) for n in range(5))
        assert cost(found) < 0.8 * cost(mean_of(branches))

    def test_no_statistics_are_refused(self):
        with pytest.raises(MergeError, match="not every side has fisher statistics"):
            merged(FISHER, branches_of(2), {})

    def test_statistics_of_another_shape_are_refused(self):
        with pytest.raises(MergeError, match="shape of the fisher statistics"):
            merged(FISHER, branches_of(2), {"fisher": (torch.ones(OUTPUTS), torch.ones(OUTPUTS))})


class TestRegmean:
    @pytest.mark.parametrize("kind", ["normal", "sizes", "dependent"])
    def test_no_weight_has_outputs_nearer_to_those_of_the_branches(self, kind):
        branches, rows = branches_of(3), inputs_of(3, kind)
        found = merged(REGMEAN, branches, {"gram": grams_of(rows)}, alpha=1.0)
        best = torch.linalg.lstsq(
            torch.cat(rows), torch.cat([r @ b.double().T for r, b in zip(rows, branches, strict=True)])
        ).solution.T
        assert off(found, branches, rows) <= off(best, branches, rows) * (1 + 1e-4)
        assert off(found, branches, rows) < 0.9 * off(mean_of(branches), branches, rows)

    def test_inputs_that_were_never_seen_keep_the_mean(self):
        branches, rows = branches_of(2), inputs_of(2)
        for each in rows:
            each[:, 3] = 0
        found = merged(REGMEAN, branches, {"gram": grams_of(rows)})
        near(found[:, 3], mean_of(branches)[:, 3])
        assert float((found[:, 4] - mean_of(branches)[:, 4]).abs().max()) > 0.01

    def test_of_fewer_rows_than_inputs_the_best_weight_nearest_to_the_mean_is_taken(self):
        branches, rows = branches_of(2), inputs_of(2, rows=3)
        found = merged(REGMEAN, branches, {"gram": grams_of(rows)}, alpha=1.0)
        assert off(found, branches, rows) < 1e-6 * off(mean_of(branches), branches, rows)
        size = torch.cat(rows).square().sum(0).sqrt()  # what is near is measured with inputs of the same size
        unseen = torch.linalg.svd(torch.cat(rows) / size).Vh[6:]
        moved = (found.double() - mean_of(branches)) * size
        near(moved @ unseen.T, torch.zeros(OUTPUTS, 3))
        assert float(moved.norm()) > 1

    @pytest.mark.parametrize("rows", [3, 40])
    @pytest.mark.parametrize("inputs", ["normal", "sizes", "dependent"])
    @pytest.mark.parametrize(("kind", "bound"), [(torch.float32, 2**-20), (torch.float64, 1e-9)], ids=str)
    def test_arrays_give_what_tensors_give_but_for_rounding(self, kind, bound, inputs, rows):
        branches, grams = branches_of(2, kind), grams_of(inputs_of(2, inputs, rows))
        expected = merged(REGMEAN, branches, {"gram": grams})
        arrays, statistics = ([tensor.numpy() for tensor in tensors] for tensors in (branches, grams))
        found = merged(REGMEAN, arrays, {"gram": tuple(statistics)})
        assert isinstance(found, np.ndarray)
        near(torch.from_numpy(found), expected, bound)

    def test_what_does_not_converge_with_arrays_is_an_error_of_the_merge(self, monkeypatch):
        def fail(*_args, **_kwargs):
            raise np.linalg.LinAlgError("failed")

        arrays = [branch.numpy() for branch in branches_of(2)]
        grams = (np.ones((INPUTS, INPUTS), np.float32),) * 2
        monkeypatch.setattr(np.linalg, "cholesky", fail)
        monkeypatch.setattr(np.linalg, "eigh", fail)
        with pytest.raises(MergeError, match="does not converge"):
            merged(REGMEAN, arrays, {"gram": grams}, alpha=1.0)

    def test_scale_of_the_statistics_does_not_matter(self):
        branches, grams = branches_of(2), grams_of(inputs_of(2))
        scaled = tuple(gram * 2.0**-40 for gram in grams)
        near(merged(REGMEAN, branches, {"gram": scaled}), merged(REGMEAN, branches, {"gram": grams}), 1e-12)

    def test_off_diagonals_shrunk_to_nothing_weigh_each_input_by_itself(self):
        branches, grams = branches_of(2), grams_of(inputs_of(2))
        sizes = [gram.diagonal().double() for gram in grams]
        expected = sum(b.double() * s for b, s in zip(branches, sizes, strict=True)) / sum(sizes)
        near(merged(REGMEAN, branches, {"gram": grams}, alpha=0.0), expected, 1e-6)


def kronecker(branches, inputs, outputs):
    """Solve what MaTS solves by elimination: ``sum B ⊗ A`` is its matrix for columns one under another."""
    matrix = sum(torch.kron(b, a) for a, b in zip(inputs, outputs, strict=True))
    goal = sum((a @ w.double().T @ b).T.reshape(-1) for a, b, w in zip(inputs, outputs, branches, strict=True))
    return torch.linalg.solve(matrix, goal).reshape(OUTPUTS, INPUTS)


def gradients_of(count, rows=40):
    return [numbers(rows, OUTPUTS, seed=30 + number) for number in range(count)]


class TestMats:
    def test_is_regmean_where_all_outputs_matter_alike(self):
        branches, grams = branches_of(3), grams_of(inputs_of(3))
        sidecars = {"gram": grams, "grad_gram": (torch.eye(OUTPUTS),) * 3}
        found = merged(MATS, branches, sidecars, torch.zeros(OUTPUTS, INPUTS))
        near(found, merged(REGMEAN, branches, {"gram": grams}, alpha=1.0), 1e-6)

    @pytest.mark.parametrize("count", [1, 2, 3])
    def test_solves_its_equation(self, count):
        branches = branches_of(count)
        inputs, outputs = grams_of(inputs_of(count), torch.float64), grams_of(gradients_of(count), torch.float64)
        base = numbers(OUTPUTS, INPUTS, seed=1).float()
        found = merged(MATS, branches, {"gram": inputs, "grad_gram": outputs}, base)
        near(found, kronecker(branches, inputs, outputs), 1e-6)

    def test_starts_from_task_arithmetic(self):
        branches, base = branches_of(2), numbers(OUTPUTS, INPUTS, seed=1).float()
        sidecars = {"gram": grams_of(inputs_of(2)), "grad_gram": grams_of(gradients_of(2))}
        found = merged(MATS, branches, sidecars, base, iterations=0)
        near(found, base + sum(branch - base for branch in branches), 1e-6)

    @pytest.mark.parametrize("tolerance", [0.3, 1e-2, 1e-4])
    def test_ends_as_soon_as_the_residual_is_small_enough(self, tolerance):
        branches, base = branches_of(2), numbers(OUTPUTS, INPUTS, seed=1).float()
        inputs, outputs = grams_of(inputs_of(2), torch.float64), grams_of(gradients_of(2), torch.float64)

        def image(weights):
            return sum(b @ w.double() @ a for a, b, w in zip(inputs, outputs, weights, strict=True))

        sidecars = {"gram": inputs, "grad_gram": outputs}
        found = merged(MATS, branches, sidecars, base, tolerance=tolerance)
        left = float((image([found] * 2) - image(branches)).norm() / image(branches).norm())
        assert tolerance / 20 < left <= tolerance

    def test_what_no_branch_knows_anything_of_stays_task_arithmetic(self):
        branches, base, rows = branches_of(2), numbers(OUTPUTS, INPUTS, seed=1).float(), inputs_of(2)
        for each in rows:
            each[:, 3] = 0
        sidecars = {"gram": grams_of(rows), "grad_gram": grams_of(gradients_of(2))}
        found = merged(MATS, branches, sidecars, base)
        near(found[:, 3], (base + sum(branch - base for branch in branches))[:, 3], 1e-6)

    def test_statistics_of_zeros_leave_task_arithmetic(self):
        branches, base = branches_of(2), numbers(OUTPUTS, INPUTS, seed=1).float()
        sidecars = {
            "gram": (torch.zeros(INPUTS, INPUTS),) * 2,
            "grad_gram": (torch.zeros(OUTPUTS, OUTPUTS),) * 2,
        }
        near(merged(MATS, branches, sidecars, base), base + sum(branch - base for branch in branches), 1e-6)

    def test_both_kinds_are_needed(self):
        branches = branches_of(2)
        found = merged(MATS, branches, {"gram": grams_of(inputs_of(2))}, torch.zeros(OUTPUTS, INPUTS))
        near(found, mean_of(branches), 1e-6)


@pytest.mark.parametrize("method", MATRICES, ids=lambda method: method.name)
class TestMatrices:
    def test_parameters_without_statistics_get_the_mean(self, method):
        branches = branches_of(3)
        near(merged(method, branches, {}, torch.zeros(OUTPUTS, INPUTS)), mean_of(branches), 1e-6)

    def test_equal_branches_stay_as_they_are(self, method):
        branches = branches_of(1) * 3
        sidecars = {"gram": grams_of(inputs_of(3)), "grad_gram": grams_of(gradients_of(3))}
        near(merged(method, branches, sidecars, torch.zeros(OUTPUTS, INPUTS)), branches[0], 1e-6)

    def test_statistics_of_another_size_are_refused(self, method):
        sidecars = {"gram": (torch.eye(INPUTS + 1),) * 2, "grad_gram": (torch.eye(OUTPUTS),) * 2}
        with pytest.raises(MergeError, match="not 9 x 9 matrices"):
            merged(method, branches_of(2), sidecars, torch.zeros(OUTPUTS, INPUTS))
