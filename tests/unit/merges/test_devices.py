"""Methods that promise the same bits on every device use only operations that round alike everywhere."""

from dataclasses import replace

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from git_theta_ext.registry import built_in, find_merge
from git_theta_ext.testing.merges import drawn

EXACT = [
    name
    for name in built_in("merges")
    if find_merge(name).contract.exact and find_merge(name).contract.granularity != "pair"
]

# IEEE 754 rounds each of these, or they round nothing.
ARITHMETIC = {
    "abs",
    "add",
    "clamp",
    "clamp_max",
    "clamp_min",
    "div",
    "maximum",
    "minimum",
    "mul",
    "rsub",
    "sign",
    "sub",
}
BITS = {"__and", "__iand", "__ixor", "__rshift", "bitwise_and", "bitwise_not", "bitwise_xor", "ge", "gt", "lt"}
ORDER = {"argsort", "cumsum", "kthvalue", "nonzero", "sort"}  # cumsum of counts; sorts are stable, or of values alone
PLACES = {"_unsafe_view", "arange", "as_strided", "cat", "clone", "copy", "detach", "empty", "empty_like", "expand"}
PLACES |= {"full", "index_put", "lift_fresh", "masked_fill", "new_empty", "new_zeros", "select", "scatter", "slice"}
PLACES |= {"split", "stack", "unbind", "unsqueeze", "view", "zeros", "zeros_like", "_to_copy"}
FUSED = {"addcdiv", "addcmul"}  # of two operations, of which CUDA may not round the first
HOST = {"_local_scalar_dense", "count_nonzero"}


class Watched(TorchDispatchMode):
    """Notes the operations that are called, and the arguments of divisions, of sums and of two operations in one."""

    def __init__(self):
        super().__init__()
        self.names, self.divisors, self.sums, self.fused = set(), [], [], []

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        name = func.overloadpacket.__name__.rstrip("_")  # what works in place rounds the same
        self.names.add(name)
        if name == "div":
            self.divisors.append(args[1])
        if name == "sum":
            self.sums.append(args[0])
        if name in FUSED:
            self.fused.append((name, *(arg.clone() for arg in args), kwargs))
        return func(*args, **(kwargs or {}))


def watched(name):
    method = find_merge(name)
    found = Watched()
    for options in choices(method.contract):
        piece = drawn(method.contract, (12, 10), min(3, method.contract.branches[1]))
        with found:
            method(replace(piece, options={**piece.options, **options}))
    return found


def choices(contract):
    words = {name: option.choices for name, option in contract.options.items() if option.choices}
    return [{}, *({name: word} for name, found in words.items() for word in found)]


@pytest.mark.parametrize("name", EXACT)
def test_exact_methods_use_no_operation_that_may_round_otherwise(name):
    assert watched(name).names - {"sum"} <= ARITHMETIC | BITS | ORDER | PLACES | HOST | FUSED


@pytest.mark.parametrize("name", EXACT)
def test_exact_methods_round_once_where_two_operations_are_one(name):
    for fused, start, one, other, factor in watched(name).fused:
        assert not factor
        if fused == "addcmul":
            assert bool(torch.isin(one, torch.tensor([0.0, 1.0])).all())  # so the product is exact
        else:
            assert not start.any()  # so the sum is exact
        assert other.dtype == start.dtype


@pytest.mark.parametrize("name", EXACT)
def test_exact_methods_divide_by_nothing_that_the_host_has(name):
    # CUDA would multiply by the reciprocal; a tensor of no dimension on the processor is such a number too.
    assert all(isinstance(divisor, torch.Tensor) for divisor in watched(name).divisors)


@pytest.mark.parametrize("name", EXACT)
def test_exact_methods_add_up_only_whole_numbers(name):
    # Whose sum is the same in any order.
    assert all(bool((each == each.round()).all()) for each in watched(name).sums)
