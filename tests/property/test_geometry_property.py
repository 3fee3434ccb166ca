"""Whatever the vectors, means on the sphere are finite, as long as they should be, and the same from every side."""

import math

from hypothesis import given
from hypothesis import strategies as st

from git_theta_plugins.merges import _geometry

_NUMBER = st.integers(-4, 4).map(float) | st.floats(-1e6, 1e6, allow_subnormal=False)
_VECTORS = st.integers(1, 5).flatmap(
    lambda size: st.lists(st.lists(_NUMBER, min_size=size, max_size=size), min_size=2, max_size=5)
)
_WEIGHT = st.floats(0.01, 100)


def inner(one, other):
    return math.fsum(a * b for a, b in zip(one, other, strict=True))


def gram(vectors):
    return [[inner(one, other) for other in vectors] for one in vectors]


def at(factors, vectors):
    return [math.fsum(f * v for f, v in zip(factors, column, strict=True)) for column in zip(*vectors, strict=True)]


def norm(vector):
    return math.sqrt(inner(vector, vector))


def longest(vectors):
    return max(map(norm, vectors))


@given(_VECTORS, st.floats(0, 1))
def test_arcs_are_the_same_from_both_ends_and_stay_between_them(vectors, t):
    one, two = vectors[:2]
    found = at(_geometry.slerp(gram([one, two]), t), [one, two])
    back = at(_geometry.slerp(gram([two, one]), 1 - t), [two, one])
    assert norm([a - b for a, b in zip(found, back, strict=True)]) <= 1e-9 * longest([one, two])
    assert all(0 <= factor < 32 for factor in _geometry.slerp(gram([one, two]), t))  # 1 / sin(acos 0.9995) is 31.6


@given(_VECTORS, st.data())
def test_means_do_not_mind_the_order_and_are_no_longer_than_the_mean_norm(vectors, data):
    weights = data.draw(st.lists(_WEIGHT, min_size=len(vectors), max_size=len(vectors)))
    order = data.draw(st.permutations(range(len(vectors))))
    mean = inner(_geometry.shares(weights), map(norm, vectors))
    found = at(_geometry.mean_direction(gram(vectors), weights), vectors)
    moved = [vectors[number] for number in order]
    again = at(_geometry.mean_direction(gram(moved), [weights[number] for number in order]), moved)
    assert norm(found) <= mean * (1 + 1e-5) + 1e-8
    assert norm([a - b for a, b in zip(found, again, strict=True)]) <= 1e-4 * mean + 1e-8


@given(_VECTORS, st.data(), st.integers(0, 20), st.sampled_from([0.0, 1e-5, 0.1]))
def test_the_karcher_mean_has_the_mean_norm(vectors, data, iterations, tolerance):
    weights = data.draw(st.lists(_WEIGHT, min_size=len(vectors), max_size=len(vectors)))
    mean = inner(_geometry.shares(weights), map(norm, vectors))
    found = at(_geometry.karcher_mean(gram(vectors), weights, iterations, tolerance), vectors)
    assert norm(found) <= mean * (1 + 1e-5) + 1e-8
    if mean > 1e-6:
        assert norm(found) >= mean * (1 - 1e-5)


@given(st.lists(_NUMBER, min_size=1, max_size=5), st.lists(_WEIGHT, min_size=2, max_size=5))
def test_the_mean_of_copies_is_each_of_them(vector, weights):
    copies = [vector] * len(weights)
    for factors in (
        _geometry.mean_direction(gram(copies), weights),
        _geometry.karcher_mean(gram(copies), weights, 10, 0.0),
    ):
        assert abs(math.fsum(factors) - 1) <= 1e-12
