"""Methods that add what the branches changed, against the definitions and the golden vectors."""

import pytest
import torch

from git_theta_ext.interfaces import Piece, Trim
from git_theta_plugins.merges.task_arithmetic import METHOD as TASK_ARITHMETIC
from git_theta_plugins.merges.ties import METHOD as TIES

BASE = torch.ones(4)
ONE, TWO = torch.tensor([3.0, 1, 0, 2]), torch.tensor([2.0, 0, 1, -1])


def options(method, **asked):
    return {name: option.default for name, option in method.contract.options.items()} | asked


def task_arithmetic(base, branches, weights=None, scale=1.0):
    asked = options(TASK_ARITHMETIC, **{"lambda": scale})
    return TASK_ARITHMETIC(Piece("w", base, tuple(branches), asked, weights or (1.0,) * len(branches)))


def threshold(vector, keep):
    """Return what keeps the ``keep`` largest magnitudes of a task vector and all that equal the smallest of them."""
    bits = vector.abs().reshape(-1).view(torch.int32).sort(descending=True).values
    return Trim(int(bits[min(keep, bits.numel()) - 1]), 1 << 62)


def ties(base, branches, keep, weights=None, majority=1, votes_by="mass"):
    trims = tuple(threshold(branch - base, keep) for branch in branches)
    weights = weights or (1.0,) * len(branches)
    return TIES(Piece("w", base, tuple(branches), options(TIES, majority=votes_by), weights, trims, majority))


def test_task_arithmetic_has_the_golden_values():
    assert task_arithmetic(BASE, [ONE, TWO], (0.5, 0.5)).tolist() == [2.5, 0.5, 0.5, 0.5]
    assert task_arithmetic(BASE, [ONE, TWO], scale=0.5).tolist() == [2.5, 0.5, 0.5, 0.5]


@pytest.mark.parametrize(("equal", "expected"), [(9, [2.5, 0, 0, -1]), (1, [2.5, 1, 0, -1])], ids=["all", "half"])
def test_ties_has_the_golden_values(equal, expected):
    # Of density 0.5 two elements stay: the largest, and the first of those that come next.
    trims = (Trim(torch.tensor(1.0).view(torch.int32).item(), equal),) * 2
    assert TIES(Piece("w", BASE, (ONE, TWO), options(TIES), (1.0, 1.0), trims)).value.tolist() == expected


@pytest.mark.parametrize(
    ("majority", "expected"), [(-1, [-1, -1, -2, 3, -2.5, -3]), (1, [1, 1, 2, 3, -2.5, -3])], ids=["-", "+"]
)
def test_elements_of_which_the_votes_cancel_out_get_the_majoritys_sign(majority, expected):
    one, two = torch.tensor([1.0, -1, 2, 3, -4, -5]), torch.tensor([-1.0, 1, -2, -1, -1, -1])
    found = ties(torch.zeros(6), [one, two], 6, majority=majority)
    assert found.value.tolist() == expected
    assert (int(found.votes), int(found.ties)) == (1 - 1 - 1, 3)


def test_weights_count_before_the_election_and_in_the_mean():
    one, two = torch.tensor([1.0, -1, 2, 3, -4, -5]), torch.tensor([-1.0, 1, -2, -1, -1, -1])
    found = ties(torch.zeros(6), [one, two], 6, (0.7, 0.3))
    torch.testing.assert_close(found.value, torch.tensor([1.0, -1, 2, 3, -3.1, -3.8]))


def test_votes_by_count_outvote_a_large_value():
    vectors = [torch.tensor([5.0]), torch.tensor([-1.0]), torch.tensor([-3.0])]
    assert ties(torch.zeros(1), vectors, 1).value.tolist() == [5]
    assert ties(torch.zeros(1), vectors, 1, votes_by="count").value.tolist() == [-2]
