"""Every built-in method keeps the contract of merge methods."""

import math

import pytest

from git_theta_ext.registry import built_in, find_merge, find_pair
from git_theta_ext.testing.memory import Watch
from git_theta_ext.testing.merges import MergeMethodTests, drawn, scratch_bytes
from git_theta_ext.testing.pairs import PairMethodTests, defaults, drawn_pairs

SINGLE = [name for name in built_in("merges") if find_merge(name).contract.granularity != "pair"]
PAIRS = [name for name in built_in("merges") if name not in SINGLE]


class TestBuiltIn(MergeMethodTests):
    @pytest.fixture(params=SINGLE)
    def method(self, request):
        return find_merge(request.param)


@pytest.mark.parametrize("name", built_in("merges"))
def test_a_method_has_the_name_that_it_is_registered_under(name):
    assert find_merge(name).name == name


@pytest.mark.parametrize("name", built_in("merges"))
def test_defaults_are_within_the_bounds(name):
    for option in find_merge(name).contract.options.values():
        if option.choices:
            assert option.default in option.choices
        else:
            assert option.least <= option.default <= option.most


def test_methods_of_pairs_are_found_as_such():
    assert PAIRS == ["lora_concat", "lora_prune_svd", "lora_svd"]
    assert [find_pair(name).name for name in PAIRS] == PAIRS


@pytest.mark.parametrize("name", SINGLE)
@pytest.mark.parametrize("shape", [(4096,), (70, 70), (300, 16), (16, 300)], ids=str)
def test_no_method_asks_for_much_more_memory_than_it_needs(name, shape):
    method = find_merge(name)
    elements = math.prod(shape)
    for count in {2, min(6, method.contract.branches[1])}:
        held = scratch_bytes(method, drawn(method.contract, shape, count)) + 4 * elements
        assert 4 * (method.contract.scratch(shape, count) + elements) <= 3 * held


def test_sums_of_large_tensors_are_held_in_blocks():
    method = find_merge("slerp")
    shape = (5, 1 << 19)
    held = scratch_bytes(method, drawn(method.contract, shape, 2))
    assert held <= 4 * method.contract.scratch(shape, 2) == 4 * method.contract.scratch((500, 1 << 19), 2)


class TestPairs(PairMethodTests):
    @pytest.fixture(params=PAIRS)
    def method(self, request):
        return find_pair(request.param)


@pytest.mark.parametrize("name", PAIRS)
def test_no_method_of_pairs_asks_for_much_more_memory_than_it_needs(name):
    method, ranks = find_pair(name), (8, 2, 16, 4, 1)
    pairs = drawn_pairs(ranks, 64, 64)
    with Watch([each for pair in pairs for each in (pair.a, pair.b)]) as watch:
        method(pairs, [1.0] * len(pairs), defaults(method))
    assert 4 * method.contract.scratch((64, 64, sum(ranks)), len(ranks)) <= 3 * watch.peak
