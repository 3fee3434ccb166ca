"""What routers begin with."""

from __future__ import annotations

import numpy as np
import pytest

from git_theta_ext.merging.experts.routers import drawn, embedded

GOLDEN = {
    "random": [[15418, -37806, 15573], [-76173, -118756, -116742]],
    "uniform_random": [[-4323, 16255, -10081], [25065, -20650, -6455]],
}
"""Of seed 7 and layer 1: in units of 2^-16, and in such units of 2/sqrt(3) before half a unit is added."""


def test_random_numbers_never_change():
    assert (drawn("random", 7, 1, (2, 3)) * 65536).tolist() == GOLDEN["random"]
    units = drawn("uniform_random", 7, 1, (2, 3)) * np.sqrt(3) / 2 * 65536 - 0.5
    assert np.rint(units).astype(int).tolist() == GOLDEN["uniform_random"]


def test_random_numbers_have_the_variance_that_is_said():
    values = drawn("random", 0, 0, (64, 1024))
    assert abs(values.mean()) < 0.02
    assert abs(values.std() - 1) < 0.02
    even = drawn("uniform_random", 0, 0, (64, 1024)) * 32
    assert 0.99 < abs(even).max() < 1
    assert abs(even.std() - 3**-0.5) < 0.02


@pytest.mark.parametrize("mode", ["random", "uniform_random"])
def test_seeds_and_layers_have_numbers_of_their_own(mode):
    first = drawn(mode, 1, 0, (3, 5))
    assert np.array_equal(first, drawn(mode, 1, 0, (3, 5)))
    assert not np.isin(first, drawn(mode, 2, 0, (3, 5))).all()
    assert not np.isin(first, drawn(mode, 1, 1, (3, 5))).all()


def test_zeros_are_zeros():
    assert not drawn("zeros", 0, 0, (2, 3)).any()


def test_tokens_that_cancel_out_give_no_direction():
    table = np.array([[3.0, 4.0], [-3.0, -4.0], [0.0, 2.0]])
    weights = embedded(lambda tokens: table[list(tokens)], [([0], []), ([0, 1], []), ([0], [2]), ([2], [2])])
    second = np.array([0.6, -0.2]) / np.sqrt(0.4)
    np.testing.assert_allclose(weights, [[0.6, 0.8], [0, 0], second, [0, 0]], atol=1e-15)
