import pytest
import torch

from git_theta_ext.testing.merges import MergeMethodTests
from git_theta_plugins.merges.average import METHOD


class TestAverage(MergeMethodTests):
    @pytest.fixture
    def method(self):
        return METHOD

    @pytest.mark.parametrize("count", [1, 2, 3, 7, 10])
    def test_copies_of_a_model_average_to_itself(self, count):
        model = torch.randn(1000, generator=torch.Generator().manual_seed(1))
        assert torch.equal(METHOD(None, [model] * count, {}), model)

    def test_it_is_the_mean(self):
        branches = [torch.tensor([1.0, 2, -4]), torch.tensor([3.0, 0, -4]), torch.tensor([5.0, 1, 2])]
        assert METHOD(None, branches[:2], {}).tolist() == [2, 1, -4]
        assert METHOD(None, branches, {}).tolist() == [3, 1, -2]

    def test_the_sum_of_large_values_does_not_overflow(self):
        large = torch.tensor([3.0e38, -3.0e38])
        assert torch.equal(METHOD(None, [large, large], {}), large)
