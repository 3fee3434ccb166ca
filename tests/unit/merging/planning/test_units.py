"""Parameters that mean something only together are found by the names that tools give them."""

import numpy as np
import pytest

from git_theta_ext.merging.planning.plan import plan
from git_theta_ext.merging.rules.rules import Rule, Rules, choice

A, B, C = ([[value, value + 1.0]] for value in (0.0, 3.0, 6.0))
UP = [[[1.0], [value]] for value in (0.0, 3.0, 6.0)]
BYTES = [np.array([value]) for value in (1, 2, 3)]


def planned(bench, names, versions, rules=None):
    """Plan a merge in which each name has a base and a value on each side; None where one is not there."""
    sides = range(len(versions[0]))
    found = [
        bench.manifest({"other": A} | {n: v[side] for n, v in zip(names, versions, strict=True) if v[side] is not None})
        for side in sides
    ]
    return plan(found[0], found[1:], rules or Rules.only())


def actions(found):
    return {decision.name: decision.action for decision in found.decisions if decision.name != "other"}


QUANTISED = [
    ("l.qweight", "l.scales"),
    ("l.qweight", "l.qzeros", "l.g_idx"),
    ("l.weight", "l.weight.absmax", "l.weight.quant_map"),
    ("l.weight", "l.weight.quant_state.bitsandbytes__nf4"),
    ("l.weight", "l.SCB", "l.weight_format"),
    ("l.weight", "l.weight_scale", "l.input_scale"),
    ("l.weight", "l.weight_scale_inv"),
    ("l.weight_packed", "l.weight_shape", "l.weight_scale"),
]


@pytest.mark.parametrize("names", QUANTISED, ids=" ".join)
def test_parts_of_a_quantised_weight_come_from_one_side_or_are_all_in_conflict(bench, names):
    one_side = [(A, A, B) for _ in names]
    assert set(actions(planned(bench, names, one_side)).values()) == {"take"}
    mixed = [(A, B, A), *((A, A, C) for _ in names[1:])]
    found = planned(bench, names, mixed)
    assert actions(found) == dict.fromkeys(names, "conflict")
    assert "part of a quantised weight that ours and theirs changed" in found.decisions[0].state
    assert {d.source for d in planned(bench, names, mixed, Rules.only("theirs")).decisions[:-1]} == {"theirs"}


@pytest.mark.parametrize("method", ["average", "ties", "task_arithmetic", "max"])
def test_a_quantised_weight_is_never_merged_by_arithmetic_whatever_the_rule_says(bench, method):
    found = planned(bench, ("l.weight", "l.weight_scale"), [(A, B, C), (A, B, C)], Rules.only(method))
    assert set(actions(found).values()) == {"conflict"}


def test_a_weight_alone_is_no_quantised_one(bench):
    assert actions(planned(bench, ("l.weight", "l.bias"), [(A, B, C), (A, B, C)])) == {
        "l.bias": "compute",
        "l.weight": "compute",
    }


PAIRS = [
    ("base_model.model.l.lora_A.weight", "base_model.model.l.lora_B.weight"),
    ("l.lora_A.default.weight", "l.lora_B.default.weight"),
    ("e.lora_embedding_A.default", "e.lora_embedding_B.default"),
    ("lora_unet_l.lora_down.weight", "lora_unet_l.lora_up.weight"),
    ("l.lora.down.weight", "l.lora.up.weight"),
]


@pytest.mark.parametrize("names", PAIRS, ids=" ".join)
@pytest.mark.parametrize(
    "versions", [[(A, B, C), tuple(UP)], [(A, B, A), (UP[0], UP[0], UP[2])]], ids=["all changed", "halves changed"]
)
def test_both_factors_of_a_lora_are_one(bench, names, versions):
    found = planned(bench, names, versions)
    (pair,) = found.pairs
    assert (pair.names, pair.alpha, pair.choice.method, pair.changed_by) == (names, None, "lora_svd", (0, 1))
    assert set(actions(found).values()) == {"compute"}


def test_a_lora_that_one_side_changed_is_taken(bench):
    found = planned(bench, PAIRS[0], [(A, A, C), (UP[0], UP[0], UP[1])])
    assert found.pairs == ()
    assert set(actions(found).values()) == {"take"}


def test_alpha_belongs_to_it(bench):
    names = (*PAIRS[3], "lora_unet_l.alpha")
    found = planned(bench, names, [(A, B, C), tuple(UP), ([1.0], [1.0], [2.0])])
    assert found.pairs[0].alpha == "lora_unet_l.alpha"
    assert actions(found) == dict.fromkeys(sorted(names), "compute")


def test_ranks_may_differ_and_add_up_where_that_is_asked_for(bench):
    two = [[1.0, 2.0], [3.0, 4.0]]
    versions = [(A, B, two), (UP[0], UP[1], two)]
    rules = Rules(choice("average"), (Rule("**.lora_*.weight", choice("lora_concat")),))
    shapes = {
        method: {name: spec.shape for name, spec in planned(bench, PAIRS[0], versions, asked).pairs[0].specs.items()}
        for method, asked in (("svd", None), ("concat", rules))
    }
    assert shapes == {
        "svd": dict(zip(PAIRS[0], [(2, 2), (2, 2)], strict=True)),
        "concat": dict(zip(PAIRS[0], [(3, 2), (2, 3)], strict=True)),
    }


@pytest.mark.parametrize(
    ("versions", "rules", "words"),
    [
        ([(A, B, C), (UP[0], UP[1], None)], None, "deleted by one side"),
        ([(A, B, [[1.0, 2.0, 3.0]]), tuple(UP)], None, "do not match"),
        ([tuple(BYTES), tuple(BYTES)], None, "not float matrices"),
        ([(A, B, C), tuple(UP)], Rules.only("conflict"), "the rules do not merge it"),
    ],
)
def test_what_cannot_be_merged_as_one_is_in_conflict_as_one(bench, versions, rules, words):
    found = planned(bench, PAIRS[0], versions, rules)
    assert found.pairs == ()
    assert actions(found) == dict.fromkeys(PAIRS[0], "conflict")
    assert words in found.decisions[0].state


def test_a_method_for_single_tensors_gives_way_and_says_so(bench):
    found = planned(bench, PAIRS[0], [(A, B, C), tuple(UP)], Rules.only("ties", origin=".thetamerge line 2"))
    assert "merged together, by lora_svd" in found.pairs[0].note


OTHERS = {
    "LoHa": ("l.hada_w1_a", "l.hada_w1_b", "l.hada_w2_a", "l.hada_w2_b", "l.alpha"),
    "LoKr": ("l.lokr_w1", "l.lokr_w2_a", "l.lokr_w2_b"),
    "DoRA": ("l.lora_A.weight", "l.lora_B.weight", "l.lora_magnitude_vector.weight"),
    "kohya's DoRA": ("lora_unet_l.lora_down.weight", "lora_unet_l.lora_up.weight", "lora_unet_l.dora_scale"),
    "AdaLoRA": ("l.lora_A", "l.lora_B", "l.lora_E", "l.ranknum"),
    "LoCon": ("l.lora_down.weight", "l.lora_mid.weight", "l.lora_up.weight", "l.alpha"),
    "OFT": ("l.oft_R.weight", "l.oft_s"),
    "VeRA": ("base_model.vera_A.default", "base_model.vera_B.default", "l.vera_lambda_b", "l.vera_lambda_d"),
    "RandLoRA": ("base_model.randlora_A", "l.randlora_lambda", "l.randlora_gamma"),
}


@pytest.mark.parametrize("names", OTHERS.values(), ids=OTHERS)
@pytest.mark.parametrize("method", ["average", "lora_svd"])
def test_factors_of_other_adapters_are_never_merged_one_by_one(bench, names, method):
    mixed = [(A, B, A), *((A, A, C) for _ in names[1:])]
    found = planned(bench, names, mixed, Rules.only(method))
    assert found.pairs == ()
    assert actions(found) == dict.fromkeys(names, "conflict")
    assert "adapter, whose factors are not merged one by one, that ours and theirs" in found.decisions[0].state
    assert set(actions(planned(bench, names, [(A, A, C) for _ in names])).values()) == {"take"}
    taken = planned(bench, names, mixed, Rules.only("ours")).decisions
    assert {d.source for d in taken if d.name in names} == {"ours"}


@pytest.mark.parametrize("name", ["l.ia3_l.weight", "l.soft_max", "l.broad_alpha", "l.vera", "l.alpha"])
def test_what_is_only_called_alike_is_averaged(bench, name):
    assert actions(planned(bench, (name,), [(A, B, C)])) == {name: "compute"}


def test_rules_that_take_parts_from_different_sides_leave_a_unit_in_conflict(bench):
    rules = Rules(choice("average"), (Rule("l.weight", choice("ours")), Rule("l.weight_scale", choice("theirs"))))
    found = planned(bench, ("l.weight", "l.weight_scale"), [(A, B, C), (A, B, C)], rules)
    assert set(actions(found).values()) == {"conflict"}


def test_a_quantised_weight_is_reported_by_types(bench):
    numbers = [("I8", np.full((2, 2), value, np.int8)) for value in (1, 2, 3)]
    found = planned(bench, ("l.W_q", "l.zero"), [tuple(numbers), (A, B, C)])
    assert actions(found) == {"l.W_q": "conflict", "l.zero": "conflict"}


@pytest.mark.parametrize(("method", "merged"), [("average", "max"), ("ties", "max"), ("sum", "sum")])
def test_the_larger_counter_of_a_batch_norm_counts_unless_a_rule_says_otherwise(bench, method, merged):
    name = "l.num_batches_tracked"
    counters = tuple(np.array(value) for value in (1, 2, 3))
    (decision,) = [d for d in planned(bench, (name,), [counters], Rules.only(method)).decisions if d.name == name]
    assert (decision.action, decision.choice.method) == ("compute", merged)
    ours = planned(bench, (name,), [counters], Rules.only("ours"))
    assert {d.source for d in ours.decisions if d.name == name} == {"ours"}
    assert actions(planned(bench, ("l.steps",), [counters])) == {"l.steps": "conflict"}
