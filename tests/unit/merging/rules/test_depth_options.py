"""Options and weights that change with the depth of a parameter."""

from __future__ import annotations

import json

import numpy as np
import pytest

from git_theta_ext.errors import MergeError
from git_theta_ext.merging.apply import apply
from git_theta_ext.merging.planning.plan import plan
from git_theta_ext.merging.rules.file import parse_override, read_rules
from git_theta_ext.merging.rules.globs import matcher
from git_theta_ext.merging.rules.layers import depths, interpolated
from git_theta_ext.merging.rules.rules import Rules, choice

NAMES = ["wte.weight", *(f"encoder.{n}.w" for n in range(5)), "decoder.0.w", "decoder.2.w", "one.0.w", "head.weight"]


def test_depth_goes_from_the_first_layer_of_a_stack_to_its_last_one():
    depth = depths(NAMES)
    assert [depth(f"encoder.{n}.w") for n in range(5)] == [0, 0.25, 0.5, 0.75, 1]
    assert [depth(name) for name in ("decoder.0.w", "decoder.2.w")] == [0, 1]


def test_parameters_outside_of_layers_have_the_first_value_and_those_of_a_single_layer_the_last_one():
    depth = depths(NAMES)
    assert [depth(name) for name in ("wte.weight", "head.weight", "one.0.w")] == [0, 0, 1]


@pytest.mark.parametrize(
    ("values", "depth", "value"),
    [([0, 0.5, 1], 0.25, 0.25), ([0, 1, 0], 0.75, 0.5), ([3], 0.4, 3), ([0, 2], 1, 2), ([1, 2, 4], 0.5, 2)],
)
def test_values_are_interpolated_between_equal_distances(values, depth, value):
    assert interpolated(values, depth) == value


def test_gradient_of_a_rules_file_applies_by_depth_and_filter():
    rules = read_rules(
        b"version: 1\ndefaults: {method: slerp}\nrules:\n"
        b"  - {match: '**.self_attn.**', with: {t: [0, 0.5, 1]}}\n"
        b"  - {match: '**.mlp.**', method: average, weights: [[1, 0], [0, 1]]}\n".replace(b"\\\n", b"\n")
    )
    assert [rules.choose("l.1.self_attn.q", depth).options["t"] for depth in (0, 0.25, 1)] == [0, 0.25, 1]
    assert rules.choose("l.1.mlp.up", 0.25).weights == (0.75, 0.25)
    assert rules.choose("l.1.norm", 0.25).options["t"] == 0.5
    assert Rules.from_dict(json.loads(json.dumps(rules.to_dict()))).to_dict() == rules.to_dict()


def test_gradient_can_be_given_in_words():
    override = parse_override("command line", ["method=slerp", "t=0,0.5,1"])
    chosen = choice(override.method, override.options)
    assert chosen.at(0.75).words == "slerp t=0.75"
    assert chosen.at(0.75) == choice("slerp", {"t": 0.75}).at(1)


@pytest.mark.parametrize(
    ("method", "options", "weights", "words"),
    [
        ("slerp", {"t": [0, 2]}, (), "'t' of 'slerp' is 2"),
        ("slerp", {"t": []}, (), r"'t' of 'slerp' is \[\]"),
        ("slerp", {"t": "0,x"}, (), "'t' of 'slerp' is 'x'"),
        ("ties", {"scope": ["model", "rule"]}, (), "'scope' of 'ties'"),
        ("dare", {"seed": [1, 2]}, (), "'seed' of 'dare'"),
        ("average", {}, [[0.5, -1], 1], "not allowed"),
        ("average", {}, [[], 1], "empty list"),
    ],
)
def test_values_of_a_gradient_are_checked(method, options, weights, words):
    with pytest.raises(MergeError, match=words):
        choice(method, options, weights)


def test_weights_may_be_negative_where_changes_are_added():
    assert choice("task_arithmetic", weights=[1, -1]).weights == (1, -1)
    with pytest.raises(MergeError, match="not allowed"):
        choice("average", weights=[1, -1])


def test_range_of_numbers_is_a_pattern():
    pattern = matcher("layers.{8..11}.**")
    names = ["layers.8.w", "layers.11.a.w", "layers.1.w", "layers.12.w", "layers.80.w"]
    assert [name for name in names if pattern.fullmatch(name)] == ["layers.8.w", "layers.11.a.w"]
    with pytest.raises(ValueError, match="ascending order"):
        matcher("layers.{11..8}.w")


def test_task_arithmetic_with_a_gradient_of_lambda_is_lines(bench):
    """LiNeS scales the change of layer l of L by alpha + beta * l / (L - 1), and that of other parameters by alpha."""
    alpha, beta, layers = 0.25, 0.5, 5
    names = ["wte.weight", *(f"h.{n}.w" for n in range(layers))]
    rng = np.random.default_rng(1)
    versions = [{name: rng.normal(size=4).astype(np.float32) for name in names} for _ in range(3)]
    versions[2]["h.1.w"] = versions[0]["h.1.w"]  # one side alone changed it
    gradient = f"{{lambda: [{alpha}, {alpha + beta}]}}"
    rules = read_rules(f"version: 1\ndefaults: {{method: task_arithmetic, with: {gradient}, sides: all}}\n".encode())
    base, *sides = map(bench.manifest, versions)
    found = apply(plan(base, sides, rules), bench.store).manifest.parameters
    for number, name in enumerate(names):
        scale = alpha + beta * max(number - 1, 0) / (layers - 1)
        change = sum(side[name].astype(np.float64) - versions[0][name] for side in versions[1:])
        np.testing.assert_allclose(bench.values(found[name]), versions[0][name] + scale * change, rtol=1e-5, atol=1e-6)
