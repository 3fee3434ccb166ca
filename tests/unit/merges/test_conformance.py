"""Every built-in method keeps the contract of merge methods."""

import pytest

from git_theta_ext.registry import BUILT_IN, find_merge, find_pair
from git_theta_ext.testing.merges import MergeMethodTests

SINGLE = [name for name in BUILT_IN["merges"] if find_merge(name).contract.granularity != "pair"]
PAIRS = [name for name in BUILT_IN["merges"] if name not in SINGLE]


class TestBuiltIn(MergeMethodTests):
    @pytest.fixture(params=SINGLE)
    def method(self, request):
        return find_merge(request.param)


@pytest.mark.parametrize("name", BUILT_IN["merges"])
def test_a_method_has_the_name_that_it_is_registered_under(name):
    assert find_merge(name).name == name


@pytest.mark.parametrize("name", BUILT_IN["merges"])
def test_defaults_are_within_the_bounds(name):
    for option in find_merge(name).contract.options.values():
        if option.choices:
            assert option.default in option.choices
        else:
            assert option.least <= option.default <= option.most


def test_methods_of_pairs_are_found_as_such():
    assert PAIRS == ["lora_concat", "lora_svd"]
    assert [find_pair(name).name for name in PAIRS] == PAIRS
