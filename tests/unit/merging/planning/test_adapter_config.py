"""The configuration of an adapter is merged by key, and says what the merged factors are."""

import json
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from safetensors.numpy import save

from git_theta_ext.merging.apply import apply
from git_theta_ext.merging.planning.adapter_config import merge_configs, taken_config
from git_theta_ext.merging.planning.adapter_scalings import AdapterScalings, three_way
from git_theta_ext.merging.planning.lora_scales import Fit, Scaling, Scalings
from git_theta_ext.merging.planning.plan import plan
from git_theta_ext.merging.planning.scaling import with_scales
from git_theta_ext.merging.rules.rules import Rules

MODULES = [f"base_model.model.{name}" for name in ("l", "model.l", "x.model.l", "k")]


def text(**settings):
    return (json.dumps({"peft_type": "LORA", **settings}, indent=2) + "\n").encode()


def merged(before, *sides):
    return json.loads(merge_configs(text(**before), [text(**side) for side in sides]).fitted())


def test_each_setting_comes_from_the_side_that_changed_it():
    found = merged({"r": 8, "lora_alpha": 8, "x": 1}, {"r": 16, "lora_alpha": 8, "x": 1}, {"r": 8, "lora_alpha": 32})
    assert found == {"peft_type": "LORA", "r": 16, "lora_alpha": 32}


def test_lists_of_names_are_sets():
    found = merged({"target_modules": ["q", "k"]}, {"target_modules": ["k", "q", "v"]}, {"target_modules": ["o", "q"]})
    assert sorted(found["target_modules"]) == ["o", "q", "v"]
    order = text(target_modules=["q", "k"]), text(target_modules=["k", "q"]), text(target_modules=["q", "k"], r=4)
    assert merge_configs(order[0], order[1:]).fitted() == order[2]


def test_ours_is_kept_and_reported_if_both_changed_a_setting_but_ranks_and_scales():
    found = merge_configs(text(r=1, note="a"), [text(r=2, note="b"), text(r=3, note="c")])
    assert json.loads(found.fitted())["note"] == "b"
    assert found.note == "several sides changed note, and ours is kept"
    assert not merge_configs(text(r=1), [text(r=2), text(r=3)]).note


def test_the_only_changed_version_stays_as_it_is():
    before, after = text(r=8), b'{"peft_type":"LORA","r":16}'
    assert merge_configs(before, [before, after]).fitted() == after
    assert merge_configs(before, [before, None]) is None
    assert merge_configs(before, [before, b"[1"]) is None


@given(
    st.dictionaries(
        st.sampled_from(MODULES), st.tuples(st.integers(1, 64), st.sampled_from([0.5, 1, 2.0, 0.3])), min_size=1
    ),
    st.booleans(),
)
def test_a_fitted_configuration_says_rank_and_scale_of_each_module(fits, stabilised):
    wanted = {module: Fit(*fit) for module, fit in fits.items()}
    config = text(r=8, lora_alpha=16, use_rslora=stabilised, rank_pattern={"l": 3}, note="ü")
    found = merge_configs(config, [config, config]).fitted(wanted)
    scaling = Scaling.of(json.loads(found))
    for module, fit in wanted.items():
        assert scaling.rank(module) == fit.rank
        assert math.isclose(scaling.scale(module), fit.scale)
    assert json.loads(found)["note"] == "ü"


def test_some_loras_are_taken_from_a_side():
    current, side = text(r=2, lora_alpha=4), text(r=3, lora_alpha=9)
    found = Scaling.of(json.loads(taken_config(current, side, [MODULES[0]], [MODULES[3]])))
    assert (found.fit(MODULES[0]), found.fit(MODULES[3])) == (Fit(3, 3.0), Fit(2, 2.0))
    assert taken_config(current, text(r=2, lora_alpha=4, note=1), MODULES[:1], MODULES[1:]) == current


def write(*configs):
    """Return the scalings of a merge that writes the configuration."""
    scalings = [Scalings((("", Scaling.of(json.loads(config))),)) for config in configs]
    before, *sides = scalings
    written = merge_configs(configs[0], configs[1:])
    return AdapterScalings(before, tuple(sides), three_way(before, sides), "adapter_config.json", written=written)


def factors(seed, **ranks):
    drawn = np.random.default_rng(seed)
    found = {}
    for module, rank in ranks.items():
        found[f"base_model.model.{module}.lora_A.weight"] = drawn.normal(size=(rank, 6)).astype("f4")
        found[f"base_model.model.{module}.lora_B.weight"] = drawn.normal(size=(5, rank)).astype("f4")
    return found


def effect(values, config, module):
    scale = Scaling.of(json.loads(config)).scale(f"base_model.model.{module}")
    a, b = (np.array(values[f"base_model.model.{module}.lora_{factor}.weight"], "f8") for factor in "AB")
    assert a.shape[0] == Scaling.of(json.loads(config)).rank(f"base_model.model.{module}")
    return scale * b @ a


def manifest(bench, values):
    content = save(values)
    return bench.manifest(values, head=content[: 8 + int.from_bytes(content[:8], "little")])


CASES = {
    "both changed rank and alpha": (text(r=2, lora_alpha=4), text(r=3, lora_alpha=9), text(r=4, lora_alpha=4)),
    "one changed to rslora, the other alpha": (
        text(r=2, lora_alpha=4),
        text(r=2, lora_alpha=4, use_rslora=True),
        text(r=2, lora_alpha=8),
    ),
    "patterns": (
        text(r=2, lora_alpha=4),
        text(r=2, lora_alpha=4, rank_pattern={"q": 3}),
        text(r=2, lora_alpha=4, alpha_pattern={"q": 1, "k": 3}),
    ),
    "the same": (text(r=2, lora_alpha=4),) * 3,
}


@pytest.mark.parametrize("configs", CASES.values(), ids=CASES)
@pytest.mark.parametrize("method", ["lora_concat", "lora_svd"])
def test_the_merged_folder_does_what_the_definition_gives(bench, configs, method):
    """``q`` is changed by both, and ``v`` is added by theirs."""
    base_rank, our_rank, their_rank = (Scaling.of(json.loads(config)).rank("q") for config in configs)
    base = factors(0, q=base_rank)
    ours = factors(1, q=our_rank)
    theirs = {**factors(2, q=their_rank), **factors(3, v=their_rank)}
    manifests = [manifest(bench, version) for version in (base, ours, theirs)]
    planned = with_scales(plan(manifests[0], manifests[1:], Rules.only(method)), write(*configs))
    found = apply(planned, bench.store).manifest
    assert not found.conflicted
    config = planned.adapter.to_bytes()
    values = {name: bench.values(parameter) for name, parameter in found.parameters.items()}
    wanted = (effect(ours, configs[1], "q") + effect(theirs, configs[2], "q")) / 2
    if method == "lora_svd":
        u, s, v = np.linalg.svd(wanted, full_matrices=False)
        rank = len(values["base_model.model.q.lora_A.weight"])
        wanted = u[:, :rank] * s[:rank] @ v[:rank]
    np.testing.assert_allclose(effect(values, config, "q"), wanted, rtol=1e-4, atol=1e-4)
    np.testing.assert_allclose(effect(values, config, "v"), effect(theirs, configs[2], "v"), rtol=1e-6)
