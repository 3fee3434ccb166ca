import pytest
import torch

from git_theta_ext.errors import MergeError
from git_theta_ext.interfaces import Piece
from git_theta_plugins.merges.average import METHOD


def average(*branches, weights=None):
    return METHOD(Piece("w", None, branches, weights=weights or (1.0,) * len(branches)))


@pytest.mark.parametrize("count", [1, 2, 3, 7, 10])
def test_copies_of_a_model_average_to_itself(count):
    model = torch.randn(1000, generator=torch.Generator().manual_seed(1))
    assert torch.equal(average(*[model] * count), model)


def test_it_is_the_mean():
    branches = [torch.tensor([1.0, 2, -4]), torch.tensor([3.0, 0, -4]), torch.tensor([5.0, 1, 2])]
    assert average(*branches[:2]).tolist() == [2, 1, -4]
    assert average(*branches).tolist() == [3, 1, -2]


def test_weights_count_by_their_share():
    one, two, three = (torch.tensor([value]) for value in (1.0, 2.0, 5.0))
    assert average(one, three, weights=(3.0, 1.0)).tolist() == [2]
    assert average(one, two, three, weights=(2.0, 0.0, 2.0)).tolist() == [3]


def test_the_sum_of_large_values_does_not_overflow():
    large = torch.tensor([3.0e38, -3.0e38])
    assert torch.equal(average(large, large), large)


def test_branches_without_any_weight_have_no_mean():
    with pytest.raises(MergeError, match="have weight 0"):
        average(torch.ones(2), torch.zeros(2), weights=(0.0, 0.0))
