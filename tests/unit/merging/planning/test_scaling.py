"""LoRAs are merged by what they do under their configurations, and fit the configuration that the merge leaves."""

import numpy as np
import pytest

from git_theta_ext.errors import MergeError
from git_theta_ext.merging.apply import apply
from git_theta_ext.merging.execution.pairs import pair_bytes
from git_theta_ext.merging.planning.adapter_scalings import AdapterScalings, three_way
from git_theta_ext.merging.planning.lora_scales import Scaling, Scalings
from git_theta_ext.merging.planning.plan import plan
from git_theta_ext.merging.planning.scaling import with_scales
from git_theta_ext.merging.rules.rules import Rules

A, B = "base_model.model.l.lora_A.weight", "base_model.model.l.lora_B.weight"
NOTHING = Scalings()


def said(rank, alpha, **others):
    return Scalings((("", Scaling.of({"r": rank, "lora_alpha": alpha, **others})),))


def factors(seed, rank):
    drawn = np.random.default_rng(seed)
    return {A: drawn.normal(size=(rank, 6)).astype("f4"), B: drawn.normal(size=(5, rank)).astype("f4")}


def known(before, *sides):
    return AdapterScalings(before, sides, three_way(before, sides), "adapter_config.json", "both changed it")


def merged(bench, versions, configs, method="average", **kept):
    """Merge adapters with these configurations of the ancestor and both sides; return what comes out and the plan."""
    base, *sides = (bench.manifest({**version, **kept}) for version in versions)
    asked = with_scales(plan(base, sides, Rules.only(method)), known(*configs))
    return apply(asked, bench.store).manifest, asked


def update(bench, found, scale):
    a, b = (np.array(bench.values(found.parameters[name])) for name in (A, B))
    return scale * b @ a


def product(version, scale):
    return scale * version[B].astype("f8") @ version[A].astype("f8")


def best(wanted, rank):
    u, s, v = np.linalg.svd(wanted, full_matrices=False)
    return u[:, :rank] * s[:rank] @ v[:rank]


CONFIGS = {
    "another alpha": ((2, 4), (2, 4), (2, 8), 2, 4.0),
    "another rank": ((2, 4), (2, 4), (4, 4), 4, 1.0),
    "both changed it alike": ((2, 4), (2, 6), (2, 6), 2, 3.0),
    "one for all": ((2, 4), (2, 4), (2, 4), 2, 2.0),
    "more ranks than the update has": ((2, 4), (2, 4), (8, 8), 8, 1.0),
}


@pytest.mark.parametrize(("before", "ours", "theirs", "rank", "scale"), CONFIGS.values(), ids=CONFIGS)
def test_the_merged_update_is_the_mean_of_the_updates(bench, before, ours, theirs, rank, scale):
    configs = before, ours, theirs
    versions = [factors(number, config[0]) for number, config in enumerate(configs)]
    found, _ = merged(bench, versions, [said(*config) for config in configs])
    assert found.parameters[A].spec.shape == (rank, 6)
    wanted = sum(product(v, alpha / r) for v, (r, alpha) in zip(versions[1:], configs[1:], strict=True)) / 2
    np.testing.assert_allclose(update(bench, found, scale), best(wanted, rank), rtol=1e-4, atol=1e-4)


def test_rank_stabilised_and_patterns_count(bench):
    configs = [
        said(8, 1, alpha_pattern={"l": 4}, rank_pattern={"^l": 2}),
        said(8, 1, alpha_pattern={"l": 4}, rank_pattern={"^l": 2}),
        said(8, 1, alpha_pattern={"l": 4}, rank_pattern={"^l": 2}, use_rslora=True),
    ]
    versions = [factors(number, 2) for number in range(3)]
    found, _ = merged(bench, versions, configs)
    wanted = (product(versions[1], 2) + product(versions[2], 4 / 2**0.5)) / 2
    np.testing.assert_allclose(update(bench, found, 4 / 2**0.5), best(wanted, 2), rtol=1e-4, atol=1e-4)


def test_factors_of_a_convolution_are_merged_as_matrices(bench):
    def convolution(seed):
        drawn = np.random.default_rng(seed)
        return {A: drawn.normal(size=(2, 3, 3, 2)).astype("f4"), B: drawn.normal(size=(5, 2, 1, 1)).astype("f4")}

    def effect(values, scale):
        return scale * np.einsum("orxy,rihw->oihw", np.array(values[B], "f8"), np.array(values[A], "f8"))

    versions = [convolution(number) for number in range(3)]
    found, _ = merged(bench, versions, [said(2, 2), said(2, 2), said(4, 8)], "lora_svd")
    assert found.conflicted  # theirs says rank 4
    found, asked = merged(bench, versions, [said(2, 2), said(2, 2), said(2, 4)], "lora_svd")
    assert (found.parameters[A].spec.shape, found.parameters[B].spec.shape) == ((2, 3, 3, 2), (5, 2, 1, 1))
    wanted = (effect(versions[1], 1) + effect(versions[2], 2)) / 2
    values = {name: bench.values(found.parameters[name]) for name in (A, B)}
    np.testing.assert_allclose(effect(values, 2), best(wanted.reshape(5, -1), 2).reshape(wanted.shape), atol=1e-4)
    (pair,) = asked.pairs
    assert pair_bytes(asked.sides, pair) > 2 * 4 * 2 * (2 * 18 + 5 * 2)


DIFFERENT = {
    "of one model in two places": ({"base_model_name_or_path": "/a/x"}, {"base_model_name_or_path": "hub/x/"}, ""),
    "bases": ({"base_model_name_or_path": "a/x"}, {"base_model_name_or_path": "a/y"}, "ours adapts x, theirs adapts y"),
    "starts": ({"init_lora_weights": "pissa"}, {}, "stand for different updates"),
    "harmless starts": ({"init_lora_weights": "gaussian"}, {}, ""),
    "experts": ({"target_parameters": ["a"]}, {"target_parameters": ["a"]}, "factors for each expert"),
}


@pytest.mark.parametrize(("ours", "theirs", "words"), DIFFERENT.values(), ids=DIFFERENT)
def test_factors_that_stand_for_something_else_are_in_conflict(bench, ours, theirs, words):
    versions = [factors(number, 2) for number in range(3)]
    found, _ = merged(bench, versions, [said(2, 2), said(2, 2, **ours), said(2, 2, **theirs)])
    assert found.conflicted == bool(words)
    assert not words or words in found.conflicts[0].reason.text


def test_a_pair_whose_scale_one_side_changed_counts_as_changed_by_it(bench):
    base, theirs = factors(0, 2), factors(1, 2)
    found, asked = merged(bench, [base, base, theirs], [said(2, 2), said(2, 4), said(2, 2)])
    assert asked.pairs[0].changed_by == (0, 1)
    wanted = (product(base, 2) + product(theirs, 1)) / 2
    np.testing.assert_allclose(update(bench, found, 2), best(wanted, 2), rtol=1e-4, atol=1e-4)
    found, asked = merged(bench, [base, base, base], [said(2, 2), said(2, 4), said(2, 2)], other=[[1.0]])
    assert (asked.pairs, found.conflicted) == ((), False)


REFUSED = {
    "both changed it": (((2, 2), (2, 4), (2, 8)), (2, 2, 2), "average", "both changed it"),
    "a rank that the tensors do not have": (((2, 2), (2, 2), (4, 2)), (2, 2, 2), "average", "theirs has rank 4"),
    "a method that makes another rank": (((2, 2), (2, 2), (2, 2)), (2, 2, 2), "lora_concat", "gives rank 4"),
    "ours of another configuration": (((2, 2), (2, 2), (2, 4)), (2, 2, 2), "ours", "not that of ours, whose factors"),
}


@pytest.mark.parametrize(("configs", "ranks", "method", "words"), REFUSED.values(), ids=REFUSED)
def test_what_cannot_fit_the_merged_configuration_is_in_conflict(bench, configs, ranks, method, words):
    versions = [factors(number, rank) for number, rank in enumerate(ranks)]
    found, _ = merged(bench, versions, [said(*config) for config in configs], method)
    assert [conflict.name for conflict in found.conflicts] == [A, B]
    assert words in found.conflicts[0].reason.text


def test_a_scaled_bias_is_in_conflict_with_its_factors(bench):
    bias = "base_model.model.l.lora_B.bias"
    versions = [factors(number, 2) | {bias: [float(number)]} for number in range(3)]
    found, _ = merged(bench, versions, [said(2, 2), said(2, 2), said(2, 4)])
    assert [conflict.name for conflict in found.conflicts] == [A, bias, B]
    found, _ = merged(bench, versions, [said(2, 2)] * 3)
    assert not found.conflicted


def test_without_any_configuration_scales_are_one(bench):
    versions = [factors(number, 2) for number in range(3)]
    found, asked = merged(bench, versions, [NOTHING] * 3)
    assert asked.pairs[0].scales == ()
    assert not found.conflicted
    found, _ = merged(bench, versions, [NOTHING, said(2, 2), NOTHING])
    assert "only some sides have one" in found.conflicts[0].reason.text


@pytest.mark.parametrize(
    "config",
    [
        {"r": True},
        {"r": 0},
        {"r": 1 << 40},
        {"r": "8"},
        {"r": 2, "rank_pattern": [1]},
        {"r": 2, "rank_pattern": {"(a+)+": 3}},
        {"r": 2, "lora_alpha": "x"},
    ],
)
def test_what_is_not_understood_is_refused(config):
    with pytest.raises(MergeError):
        Scaling.of(config).scale("base_model.model.l")
