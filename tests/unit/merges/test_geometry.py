"""Methods that go along arcs, against their definitions."""

import math

import pytest
import torch
from peers import near, ours

from git_theta_ext.errors import MergeError
from git_theta_plugins.merges import _geometry

BASE, ONE, TWO = torch.ones(4), torch.tensor([3.0, 1, 0, 2]), torch.tensor([2.0, 0, 1, -1])
ARCS = ["nuslerp", "multislerp", "karcher", "model_stock"]
ROUNDING = 1e-12


def drawn(*shape, seed=5):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64).float()


def inputs(kind, shape=(24, 17), count=3):
    """Return a base and branches whose changes have something in common, and something that is hard."""
    base, common = drawn(*shape), 0.1 * drawn(*shape, seed=6)
    branches = [base + common + 0.1 * drawn(*shape, seed=7 + number) for number in range(count)]
    if kind == "parallel":
        branches = [base + common * (number + 1) for number in range(count)]
    if kind == "unequal":
        branches[0] = base + 1000 * common
    if kind == "tiny":
        branches[0] = base * (1 + 2**-10)
    return base, branches


def at_origin(tensors):
    return torch.zeros_like(tensors[0]), tensors


def test_slerp_has_the_golden_values():
    near(ours("slerp", None, [BASE, ONE]), torch.tensor([2.10714, 1.05357, 0.52679, 1.58036]), 1e-5)


def test_model_stock_has_the_golden_values():
    assert ours("model_stock", BASE, [ONE, TWO]).tolist() == [1, 1, 1, 1]


def test_model_stock_is_held_between_base_and_mean():
    tau = drawn(50)
    opposed = [tau, -tau + 0.01 * drawn(50, seed=6)]
    assert torch.equal(ours("model_stock", *at_origin(opposed)), torch.zeros(50))
    assert torch.equal(ours("model_stock", *at_origin([tau] * 4)), tau)


def test_model_stock_has_the_papers_share():
    one, two = torch.tensor([1.0, 0, 0]), torch.tensor([0.6, 0.8, 0])  # of cosine 0.6
    share = 2 * 0.6 / (1 + 0.6)
    near(ours("model_stock", *at_origin([one, two])), (one + two) / 2 * share)
    # A branch that changed nothing has no direction: its cosines are 0.
    share = 3 * 0.2 / (1 + 2 * 0.2)
    near(ours("model_stock", *at_origin([one, two, 0 * one])), (one + two) / 3 * share)


@pytest.mark.parametrize("t", [0.0, 1.0])
def test_arcs_end_at_the_branches(t):
    one, two = drawn(60), drawn(60, seed=6)
    assert torch.equal(ours("slerp", None, [one, two], t=t), two if t else one)
    assert torch.equal(ours("nuslerp", *at_origin([one, two]), (1 - t, t)), two if t else one)


def test_arcs_turn_evenly():
    one, two = torch.tensor([2.0, 0.0]), torch.tensor([0.0, 2.0])
    angle = 0.25 * math.pi / 2
    near(ours("slerp", None, [one, two], t=0.25), torch.tensor([2 * math.cos(angle), 2 * math.sin(angle)]))
    near(ours("nuslerp", *at_origin([one, two]), (3.0, 1.0)), ours("slerp", None, [one, two], t=0.25))


@pytest.mark.parametrize("other", ["parallel", "opposite", "nearly"])
def test_parallel_vectors_are_interpolated_linearly(other):
    one = drawn(60)
    two = {"parallel": 3 * one, "opposite": -2 * one, "nearly": one + 0.01 * drawn(60, seed=6)}[other]
    near(ours("slerp", None, [one, two], t=0.25), 0.75 * one + 0.25 * two, 1e-7)
    near(ours("nuslerp", *at_origin([one, two]), (3.0, 1.0)), 0.75 * one + 0.25 * two, 1e-7)


def test_a_vector_without_direction_is_as_if_it_were_at_a_right_angle():
    one = drawn(60)
    near(ours("slerp", None, [one, 0 * one], t=0.5), one * math.sin(math.pi / 4), 1e-7)


def test_multislerp_averages_in_the_tangent_plane():
    _, vectors = at_origin([drawn(50, seed=seed) * (seed + 1) for seed in range(3)])
    weights = torch.tensor([0.2, 0.3, 0.5], dtype=torch.float64)
    flat = torch.stack(vectors).double()
    units = flat / flat.norm(dim=1, keepdim=True)
    middle = (units * weights[:, None]).sum(0)
    middle /= middle.norm()
    step = ((units - (units @ middle)[:, None] * middle) * weights[:, None]).sum(0)
    assert step.norm() < 1e-15  # which is why the method leaves it out
    expected = middle * (flat.norm(dim=1) * weights).sum()
    near(ours("multislerp", *at_origin(vectors), tuple(weights.tolist())), expected, 1e-7)


def test_opposite_directions_have_the_weighted_mean():
    tau = drawn(50)
    found = ours("multislerp", *at_origin([tau, -tau, 3 * tau, -3 * tau]))
    near(found, 0 * tau, 1e-7)
    near(ours("multislerp", *at_origin([2 * tau, -tau])), tau / 2, 1e-7)


def test_what_rounding_leaves_of_opposites_is_no_direction():
    base, tau = drawn(50), 0.1 * drawn(50, seed=6)
    branches = [base + tau, base - tau]
    assert not torch.equal(branches[0] - base, base - branches[1])
    near(ours("multislerp", base, branches), base, 1e-6)


def arcs_to(mean, units):
    cosines = (units @ mean).clamp(-1, 1)
    angles = cosines.acos()
    return (units - cosines[:, None] * mean) * (angles / angles.sin())[:, None]


@pytest.mark.parametrize("weights", [(1.0, 1.0, 1.0), (0.7, 0.2, 0.1), (1.0, 0.0, 1.0)])
def test_from_the_karcher_mean_the_arcs_add_up_to_nothing(weights):
    vectors = [drawn(50, seed=seed).double() * (seed + 1) for seed in range(3)]
    found = ours("karcher", None, vectors, weights, iterations=100, tolerance=1e-12)
    flat, shares = torch.stack(vectors), torch.tensor(weights, dtype=torch.float64) / sum(weights)
    units = flat / flat.norm(dim=1, keepdim=True)
    assert (arcs_to(found / found.norm(), units) * shares[:, None]).sum(0).norm() < ROUNDING
    assert found.norm().item() == pytest.approx((flat.norm(dim=1) * shares).sum().item(), rel=1e-12)


def test_karcher_goes_on_where_there_is_nothing_left_to_do():
    tau = drawn(50)
    for branches in ([tau, tau], [tau, 2 * tau], [tau]):
        found = ours("karcher", None, branches, tolerance=0.0, iterations=1000)
        near(found, sum(branches) / len(branches), 1e-7)


def test_karcher_of_opposites_goes_the_first_ones_way():
    tau = drawn(50)
    near(ours("karcher", None, [tau, -3 * tau]), 2 * tau, 1e-7)


def test_karcher_counts_a_zero_for_the_length_alone():
    tau = drawn(50)
    near(ours("karcher", None, [tau, 0 * tau]), tau / 2, 1e-7)


@pytest.mark.parametrize("name", ARCS)
@pytest.mark.parametrize("count", [2, 3, 7])
@pytest.mark.parametrize("scale", [1e-12, 1.0, 1e30])
def test_copies_of_one_model_are_that_model(name, count, scale):
    if name == "nuslerp" and count > 2:
        pytest.skip("it merges two")
    if name in ("model_stock", "nuslerp") and scale < 1e-8:
        pytest.skip("changes so small have no direction")
    tau = drawn(300) * scale
    assert torch.equal(ours(name, *at_origin([tau] * count)), tau)


@pytest.mark.parametrize("name", [*ARCS, "slerp"])
def test_the_base_stays_where_nothing_changed(name):
    base = drawn(5, 6)
    assert torch.equal(ours(name, base, [base, base]), base)


@pytest.mark.parametrize("name", ARCS)
def test_float64_keeps_its_width(name):
    tau = drawn(300).double() / 3
    torch.testing.assert_close(ours(name, *at_origin([tau] * 2)), tau, rtol=1e-14, atol=1e-15)


@pytest.mark.parametrize("name", [*ARCS, "slerp"])
@pytest.mark.parametrize("kind", ["normal", "parallel", "unequal", "tiny"])
def test_who_is_first_changes_nothing_but_rounding(name, kind):
    base, branches = inputs(kind, count=2)
    near(ours(name, base, branches), ours(name, base, branches[::-1]), 1e-6)


@pytest.mark.parametrize("name", ["multislerp", "karcher", "nuslerp"])
def test_weights_that_are_all_zero_are_refused(name):
    base, branches = inputs("normal", count=2)
    with pytest.raises(MergeError, match="weight 0"):
        ours(name, base, branches, (0.0, 0.0))


def test_products_are_read_as_norms_and_cosines():
    sizes, cosines = _geometry.cosines([[4.0, 3.0, 0.0], [3.0, 9.0, 0.0], [0.0, 0.0, 0.0]])
    assert sizes == [2, 3, 0]
    assert cosines == [[1, pytest.approx(0.5), 0], [pytest.approx(0.5), pytest.approx(1), 0], [0, 0, 0]]
