"""Statistics reach a method whole, whatever the shape of the parameter that they are of."""

import numpy as np
import pytest

from git_theta_ext.merging.execution.engine import Engine
from git_theta_ext.merging.planning.plan import plan
from git_theta_ext.merging.rules.rules import Rules, choice


def drawn(seed, *shape):
    return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


def gram(seed, size):
    rows = drawn(seed, 4 * size, size)
    return rows.T @ rows / len(rows)


@pytest.mark.parametrize("shape", [(2, 5), (5, 2), (3, 3), (1, 4)], ids=str)
@pytest.mark.parametrize(("method", "kinds"), [("regmean", ["gram"]), ("mats", ["gram", "grad_gram"])])
def test_gram_matrices_may_have_more_rows_than_the_weight(bench, shape, method, kinds):
    base, *sides = (bench.manifest({"w": drawn(seed, *shape)}) for seed in range(3))
    sizes = {"gram": shape[1], "grad_gram": shape[0]}
    known = {
        number: {f"{kind}/w": bench.parameter(gram(number + 5, sizes[kind])) for kind in kinds} for number in range(2)
    }
    options = {"alpha": 1.0} if method == "regmean" else {}
    planned = plan(base, sides, Rules(choice(method, options)))
    found = Engine(bench.store, statistics=known).compute(planned)
    assert found.failed == {}
    if method == "regmean":
        grams = [gram(number + 5, shape[1]).astype(np.float64) for number in range(2)]
        weights = [drawn(seed, *shape).astype(np.float64) for seed in (1, 2)]
        goal = sum(g @ w.T for g, w in zip(grams, weights, strict=True))
        expected = np.linalg.solve(sum(grams), goal).T
        np.testing.assert_allclose(bench.values(found.values["w"]), expected, rtol=1e-4, atol=1e-5)


def test_statistics_of_rows_that_one_side_appended_are_left_out(bench):
    rows = {0: 3, 1: 4, 2: 3}
    base, *sides = (bench.manifest({"w": drawn(seed, count, 2)}) for seed, count in rows.items())
    fisher = {number: np.abs(drawn(number + 5, rows[number + 1], 2)) + 1 for number in range(2)}
    known = {number: {"fisher/w": bench.parameter(found)} for number, found in fisher.items()}
    planned = plan(base, sides, Rules(choice("grow", {"method": "fisher"})))
    found = Engine(bench.store, statistics=known).compute(planned)
    ours, theirs = drawn(1, 4, 2), drawn(2, 3, 2)
    merged = (fisher[0][:3] * ours[:3] + fisher[1] * theirs) / (fisher[0][:3] + fisher[1])
    np.testing.assert_allclose(bench.values(found.values["w"]), np.concatenate([merged, ours[3:]]), rtol=1e-5)
