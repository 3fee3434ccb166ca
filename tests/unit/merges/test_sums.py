"""Sums have the same bits wherever they are computed, whatever the number of threads and the memory."""

import math

import pytest
import torch

from git_theta_ext.errors import MergeError
from git_theta_plugins.merges import _sums


def folded(numbers):
    """Add floats of Python's in the order that is promised."""
    while len(numbers) > 1:
        half = len(numbers) // 2
        sums = [one + other for one, other in zip(numbers[:half], numbers[half : 2 * half], strict=True)]
        if len(numbers) % 2:
            sums[0] += numbers[-1]
        numbers = sums
    return numbers[0] if numbers else 0.0


def drawn(*shape, seed=5):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("count", [0, 1, 2, 3, 5, 7, 8, 11, 13, 999, 1000, 4097])
def test_the_order_of_additions_is_fixed(count):
    values = drawn(count).double().exp() / 3  # of all bits, or every order would do
    found = _sums.fixed_sum(values)
    assert (found.dtype, found.shape) == (torch.float64, ())
    assert found.item() == folded(values.tolist())
    assert found.item() == pytest.approx(math.fsum(values.tolist()), rel=1e-12, abs=1e-12)


def test_columns_are_summed_each_by_itself():
    values = drawn(7, 3).double() / 3
    assert _sums.fixed_sum(values).tolist() == [folded(values[:, column].tolist()) for column in range(3)]


@pytest.mark.parametrize("shape", [(), (0,), (1,), (21,), (4, 6), (2, 3, 4)], ids=str)
def test_inner_products_are_sums_of_blocks(monkeypatch, shape):
    monkeypatch.setattr(_sums, "_BLOCK", 8)
    one, other = drawn(*shape), drawn(*shape, seed=6)
    terms = [
        first * second for first, second in zip(*(each.reshape(-1).tolist() for each in (one, other)), strict=True)
    ]
    blocks = [folded(terms[start : start + 8]) for start in range(0, len(terms), 8)]
    assert _sums.dot(one, other).item() == folded(blocks)


def test_inner_products_of_several_are_those_of_each_two():
    vectors = [drawn(50, seed=seed) for seed in range(4)]
    expected = [[_sums.dot(one, other).item() for other in vectors] for one in vectors]
    assert _sums.gram(vectors) == expected


def test_infinite_inner_products_are_refused():
    with pytest.raises(MergeError, match="squares of its values overflow"):
        _sums.gram([torch.full((2,), 1e200, dtype=torch.float64)])


def test_float32_never_overflows():
    assert _sums.gram([torch.full((4,), 3e38)])[0][0] == pytest.approx(4 * 9e76)


@pytest.mark.parametrize("block", [1, 8, 1 << 20])
def test_combinations_are_rounded_once(monkeypatch, block):
    monkeypatch.setattr(_sums, "_BLOCK", block)
    vectors = [drawn(5, 7, seed=seed) for seed in range(3)]
    exact = sum(vector.double() * factor for vector, factor in zip(vectors, (0.1, -0.7, 3.0), strict=True))
    found = _sums.combined(vectors, (0.1, -0.7, 3.0))
    assert found.dtype == torch.float32
    assert torch.equal(found, exact.float())


def test_combinations_do_not_mind_how_memory_is_laid_out():
    vectors = [drawn(5, 7, seed=seed) for seed in range(2)]
    expected = _sums.combined(vectors, (0.3, 0.4))
    assert torch.equal(_sums.combined([vector.T for vector in vectors], (0.3, 0.4)), expected.T)


def test_combinations_of_nothing_are_nothing():
    assert _sums.combined([torch.empty(0, 3)] * 2, (0.5, 0.5)).shape == (0, 3)
    assert _sums.combined([torch.tensor(3.0)] * 2, (0.5, 0.5)).item() == 3
