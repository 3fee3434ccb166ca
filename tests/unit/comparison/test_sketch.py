"""The effective rank of a change: exact for small matrices, recognised in the bins of large ones."""

import numpy as np
import pytest

from git_theta_ext.comparison.distance import Rank
from git_theta_ext.comparison.measure import measure
from git_theta_ext.comparison.sketch import Sketch
from git_theta_ext.model.dtypes import dtype
from git_theta_ext.model.floats import from_float, to_float
from git_theta_ext.model.tensor import TensorSpec


def versions(shape, change, kind="F32"):
    """Return two versions of a tensor, the second with a change of a norm of a hundredth."""
    rng = np.random.default_rng(3)
    old = to_float(from_float(rng.normal(size=shape), dtype(kind)), dtype(kind)).reshape(shape)
    delta = change(rng)
    new = old + delta * (0.01 * np.linalg.norm(old) / np.linalg.norm(delta))
    return from_float(old, dtype(kind)), from_float(new, dtype(kind)), TensorSpec.of(kind, shape)


def rank(shape, change, kind="F32"):
    old, new, spec = versions(shape, change, kind)
    size = spec.chunk_bytes // 64  # whatever the chunks are: rows are divided between them
    chunks = [[side[at : at + size] for at in range(0, len(side), size)] for side in (old, new)]
    return measure(*chunks, spec).rank


def low_rank(shape, number):
    return lambda rng: rng.normal(size=(shape[0], number)) @ rng.normal(size=(number, shape[1]))


@pytest.mark.parametrize("shape", [(40, 40), (384, 384), (300, 1000), (1025, 300), (16, 3000)])
@pytest.mark.parametrize("kind", ["F32", "BF16"])
def test_a_low_rank_is_found_whatever_the_shape(shape, kind):
    assert rank(shape, low_rank(shape, 4), kind) == Rank(4)


def test_convolutions_are_matrices_of_their_first_dimension():
    old, new, spec = versions((32, 32), low_rank((32, 32), 2))
    assert measure([old], [new], TensorSpec.of("F32", (32, 8, 2, 2))).rank == Rank(2)
    assert measure([old], [new], spec).rank == Rank(2)


def test_high_ranks_of_large_matrices_are_not_counted():
    found = rank((400, 600), lambda rng: rng.normal(size=(400, 600)))
    assert found == Rank(50, exact=False)
    assert str(found) == "≥ 50"


def test_small_matrices_have_their_whole_rank():
    assert rank((30, 50), lambda rng: rng.normal(size=(30, 50))) == Rank(30)


def test_a_spectrum_that_ends_in_noise_has_only_a_bound():
    def decaying(rng):
        one, two = (np.linalg.qr(rng.normal(size=(200, 200)))[0] for _ in range(2))
        return one @ np.diag(0.93 ** np.arange(200)) @ two

    assert rank((200, 200), decaying) == Rank(48)
    found = rank((200, 200), decaying, "BF16")
    assert not found.exact
    assert 5 < found.value < 48


def test_vectors_and_unchanged_matrices_have_no_rank():
    data = bytes(64)
    assert measure([data], [b"\1" * 64], TensorSpec.of("F32", (16,))).rank is None
    assert measure([data], [b"\1" * 64], TensorSpec.of("F32", (16, 1))).rank is None
    assert measure([data], [data], TensorSpec.of("F32", (4, 4))).rank is None
    assert Sketch.of(TensorSpec.of("C64", (4, 4))) is None


def test_infinite_changes_have_no_rank():
    new = np.zeros((4, 4), np.float32)
    new[1, 2] = np.inf
    assert measure([bytes(64)], [new.tobytes()], TensorSpec.of("F32", (4, 4))).rank is None


@pytest.mark.parametrize("first", [0, 7, 299, 300, 1234])
def test_parts_add_up_to_the_whole(first):
    spec = TensorSpec.of("F64", (600, 300))
    values = np.random.default_rng(5).normal(size=spec.elements)
    whole, parts = Sketch.of(spec), Sketch.of(spec)
    whole.add(values, 0)
    parts.add(values[:first], 0)
    parts.add(values[first:], first)
    np.testing.assert_allclose(parts.total, whole.total, rtol=1e-9, atol=1e-9)


def test_columns_wider_than_a_block_are_folded_alike():
    spec = TensorSpec.of("F64", (2, 70_001))
    values = np.random.default_rng(5).normal(size=spec.elements)
    whole, parts = Sketch.of(spec), Sketch.of(spec)
    whole.add(values, 0)
    for at in range(0, spec.elements, 999):
        parts.add(values[at : at + 999], at)
    np.testing.assert_allclose(parts.total, whole.total, rtol=1e-9, atol=1e-9)
