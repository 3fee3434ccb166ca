"""Parameters that mean something only together are found by the names that tools give them."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis.strategies import data, integers, sampled_from

from git_theta_ext.merging.apply import apply
from git_theta_ext.merging.planning.casts import Casts
from git_theta_ext.merging.planning.plan import plan
from git_theta_ext.merging.rules.rules import Rule, Rules, choice
from git_theta_ext.model.manifest import Manifest, Parameter, Skeleton
from git_theta_ext.model.tensor import Digest, TensorSpec

A, B, C = ([[value, value + 1.0]] for value in (0.0, 3.0, 6.0))
UP = [[[1.0], [value]] for value in (0.0, 3.0, 6.0)]
BYTES = [np.array([value]) for value in (1, 2, 3)]


def planned(bench, names, versions, rules=None, **options):
    """Plan a merge in which each name has a base and a value on each side; None where one is not there."""
    sides = range(len(versions[0]))
    found = [
        bench.manifest({"other": A} | {n: v[side] for n, v in zip(names, versions, strict=True) if v[side] is not None})
        for side in sides
    ]
    return plan(found[0], found[1:], rules or Rules.only(), **options)


def actions(found):
    return {decision.name: decision.action for decision in found.decisions if decision.name != "other"}


QUANTISED = [
    ("I32", "l.qweight", "l.scales"),
    ("I32", "l.qweight", "l.qzeros", "l.g_idx"),
    ("U8", "l.weight", "l.weight.absmax", "l.weight.quant_map"),
    ("F32", "l.weight", "l.weight.absmax", "l.weight.quant_state.bitsandbytes__nf4"),
    ("I8", "l.weight", "l.SCB", "l.weight_format"),
    ("F8_E4M3", "l.weight", "l.weight_scale", "l.input_scale"),
    ("F8_E4M3", "l.weight", "l.weight_scale_inv"),
    ("U8", "l.weight_packed", "l.weight_shape", "l.weight_scale"),
]
WIDTHS = {"I32": np.int32, "U8": np.uint8, "I8": np.int8, "F8_E4M3": np.uint8, "F32": np.float32}


def numbers(kind):
    """Return three versions of the numbers of a weight."""
    return tuple((kind, np.full((1, 2), value, WIDTHS[kind])) for value in (1, 2, 3))


@pytest.mark.parametrize("case", QUANTISED, ids=" ".join)
def test_parts_of_a_quantised_weight_come_from_one_side_or_are_all_in_conflict(bench, case):
    kind, *names = case
    base, ours, theirs = numbers(kind)
    one_side = [(base, base, theirs), *((A, A, B) for _ in names[1:])]
    assert set(actions(planned(bench, names, one_side)).values()) == {"take"}
    mixed = [(base, ours, base), *((A, A, C) for _ in names[1:])]
    found = planned(bench, names, mixed)
    assert actions(found) == dict.fromkeys(names, "conflict")
    assert "part of a quantised weight that ours and theirs changed" in found.decisions[0].state
    assert {d.source for d in planned(bench, names, mixed, Rules.only("theirs")).decisions[:-1]} == {"theirs"}
    assert [unit.members for unit in found.units] == [tuple(sorted(names))]


@pytest.mark.parametrize("method", ["average", "ties", "task_arithmetic", "max"])
def test_a_quantised_weight_is_never_merged_by_arithmetic_whatever_the_rule_says(bench, method):
    versions = [numbers("F8_E4M3"), (A, B, C)]
    for rules in (Rules.only(method), Rules(choice("average"), (Rule("l.*", choice(method, rule_index=1)),))):
        found = planned(bench, ("l.weight", "l.weight_scale"), versions, rules)
        assert set(actions(found).values()) == {"conflict"}
    assert f"(fp8, 8 bits); the rules ({method}) do not merge it" in found.decisions[0].state


@pytest.mark.parametrize("kind", ["I8", "F8_E4M3"])
def test_a_rule_that_names_a_part_applies_to_the_whole_weight(bench, composing, kind):
    rules = Rules(choice("average"), (Rule("**.weight_scale", choice("theirs")),))
    names = ("l.weight", "l.weight_scale", "l.input_scale")
    found = planned(bench, names, [numbers(kind), (A, B, C), (A, A, B)], rules)
    assert {d.source for d in found.decisions if d.name != "other"} == {"theirs"}
    assert {d.note for d in found.decisions if d.name != "other"} == {
        "theirs is taken for the whole quantised weight: a rule names a part of it"
    }
    merged = apply(found, bench.store).manifest
    assert not merged.conflicts
    assert [merged.parameters[name] for name in names] == [found.sides[1].parameters[name] for name in names]


def test_scales_that_one_side_converted_to_another_type_are_not_taken_for_the_other_sides_numbers(bench):
    base, _, theirs = numbers("I8")
    half = ("F16", np.array(A, np.float16))
    casts = {"l.weight_scale": Casts(frozenset({0}))}
    found = planned(bench, ("l.weight", "l.weight_scale"), [(base, base, theirs), (A, half, C)], casts=casts)
    assert actions(found) == {"l.weight": "conflict", "l.weight_scale": "conflict"}


NOT_QUANTISED = ("BF16", np.full((1, 2), 5, np.uint16))


@pytest.mark.parametrize("changed", ["l.qweight", "l.scales", "l.qzeros"])
def test_a_weight_that_one_side_made_plain_is_never_half_of_each(bench, changed):
    names = ("l.qweight", "l.qzeros", "l.scales", "l.weight")
    values = {name: numbers("I32") for name in names[:2]} | {"l.scales": (A, B, C)}
    versions = [(values[n][0], None, values[n][1 if n == changed else 0]) for n in names[:3]]
    found = planned(bench, names, [*versions, (None, NOT_QUANTISED, None)])
    assert set(actions(found).values()) == {"conflict"}
    assert "or BF16" in found.decisions[0].state
    alone = planned(bench, names, [*((v[0], None, v[0]) for v in versions), (None, NOT_QUANTISED, None)])
    assert set(actions(alone).values()) == {"take"}


SCHEMES = {
    "qweight": ("I32", ("qzeros", "scales", "g_idx")),
    "weight_packed": ("U8", ("weight_scale", "weight_global_scale", "input_global_scale")),
    "W_q": ("U8", ("scale", "zero", "nbits")),
    "down_proj_blocks": ("U8", ("down_proj_scales",)),
    "_weight_qdata": ("I8", ("_weight_scale", "_weight_zero_point")),
}
SKELETON = Skeleton(Digest("f" * 64), 1)


@settings(max_examples=60, deadline=None)
@given(data())
def test_no_combination_of_changes_mixes_two_sides(data):
    """The common ancestor is whole. Each side has one of three values of a part, or not the part, or a plain weight."""
    sides = range(1 + data.draw(integers(2, 3)))
    manifests = [{} for _ in sides]
    for module in ("a", "b"):
        main = data.draw(sampled_from(sorted(SCHEMES)))
        kind, parts = SCHEMES[main]
        plain = "down_proj" if main.startswith("down") else "weight"
        for number, name in enumerate((main, *parts, plain)):
            spec = TensorSpec.of(kind if name == main else "F32", (4, 4))
            for side in sides:
                drawn = data.draw(sampled_from([None, None, 1, 2] if name == plain else [0, 0, 0, 1, 2, None]))
                value = 0 if side == 0 and name != plain else drawn
                if value is not None:
                    # Equal values under a lost and a new name would count as a renamed parameter.
                    digest = Digest(f"{value:032x}{ord(module):016x}{number:016x}")
                    manifests[side][f"{module}.{name}"] = Parameter(spec, digest)
    base, *others = [Manifest("safetensors", SKELETON, manifest) for manifest in manifests]
    for module in ("a", "b"):
        members = [d for d in plan(base, others, Rules.only()).decisions if d.name.startswith(module)]
        if any(d.action == "conflict" for d in members):
            assert all(d.action == "conflict" for d in members if d.changed_by)
        else:
            assert [d.value for d in members] in [[d.sides[side] for d in members] for side in range(len(others))]


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
    ("x.processor.to_q_lora.down.weight", "x.processor.to_q_lora.up.weight"),
    ("double_blocks.0.processor.qkv_lora1.down.weight", "double_blocks.0.processor.qkv_lora1.up.weight"),
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


def test_loras_that_both_sides_added_are_in_conflict_like_other_parameters(bench):
    found = planned(bench, PAIRS[0], [(None, B, C), (None, UP[0], UP[1])])
    assert actions(found) == dict.fromkeys(PAIRS[0], "conflict")
    assert {decision.state for decision in found.decisions[:2]} == {"added by both, differently"}


def test_alpha_belongs_to_it(bench):
    names = (*PAIRS[3], "lora_unet_l.alpha")
    found = planned(bench, names, [(A, B, C), tuple(UP), ([1.0], [1.0], [2.0])])
    assert found.pairs[0].alpha == "lora_unet_l.alpha"
    assert actions(found) == dict.fromkeys(sorted(names), "compute")


def test_an_alpha_that_one_side_lacks_is_a_conflict(bench):
    names = (*PAIRS[3], "lora_unet_l.alpha")
    found = planned(bench, names, [(A, B, C), tuple(UP), ([1.0], [1.0], None)])
    assert set(actions(found).values()) == {"conflict"}
    assert "its alpha is missing on one side" in found.decisions[0].state


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
    "a trained scale": ("lora_unet_l.lora_down.weight", "lora_unet_l.lora_up.weight", "lora_unet_l.scalar"),
    "GLoRA": ("lora_unet_l.a1.weight", "lora_unet_l.a2.weight", "lora_unet_l.b1.weight", "lora_unet_l.b2.weight"),
    "SuperTuning": ("l.supertuning_lora_A.weight", "l.supertuning_lora_B.weight", "l.supertuning_values"),
    "embeddings of OFT": ("l.oft_embedding_R.weight", "l.oft_embedding_R.x"),
    "HiRA": ("l.hira_A.weight", "l.hira_B.weight"),
    "tasks": ("prompt_encoder.prefix_task_cols", "prompt_encoder.prefix_task_rows"),
    "UniLoRA": ("base_model.unilora_theta_d", "l.unilora_indices_A"),
    "RandLoRA": ("base_model.randlora_A", "l.randlora_lambda", "l.randlora_gamma"),
}


@pytest.mark.parametrize("names", OTHERS.values(), ids=OTHERS)
@pytest.mark.parametrize("method", ["average", "lora_svd"])
def test_factors_of_other_adapters_are_never_merged_one_by_one(bench, names, method):
    mixed = [(A, B, A), *((A, A, C) for _ in names[1:])]
    found = planned(bench, names, mixed, Rules.only(method))
    assert found.pairs == ()
    assert actions(found) == dict.fromkeys(names, "conflict")
    (first,) = [decision for decision in found.decisions if decision.name == names[0]]
    assert "adapter, whose factors are not merged one by one, that ours and theirs" in first.state
    assert set(actions(planned(bench, names, [(A, A, C) for _ in names])).values()) == {"take"}
    taken = planned(bench, names, mixed, Rules.only("ours")).decisions
    assert {d.source for d in taken if d.name in names} == {"ours"}


@pytest.mark.parametrize(
    "name", ["l.ia3_l.weight", "l.soft_max", "l.broad_alpha", "l.vera", "l.alpha", "shadow_params.0", "l.scalar"]
)
def test_what_is_only_called_alike_is_averaged(bench, name):
    assert actions(planned(bench, (name,), [(A, B, C)])) == {name: "compute"}


def test_rules_that_take_parts_from_different_sides_leave_a_unit_in_conflict(bench):
    rules = Rules(choice("average"), (Rule("l.weight", choice("ours")), Rule("l.weight_scale", choice("theirs"))))
    found = planned(bench, ("l.weight", "l.weight_scale"), [numbers("I8"), (A, B, C)], rules)
    assert set(actions(found).values()) == {"conflict"}
    assert "the rules (ours, theirs) do not merge it as one" in found.decisions[0].state


def test_a_quantised_weight_is_reported_by_types(bench):
    found = planned(bench, ("l.coded", "l.zero"), [numbers("I8"), (A, B, C)])
    assert actions(found) == {"l.coded": "conflict", "l.zero": "conflict"}


@pytest.mark.parametrize(("method", "merged"), [("average", "max"), ("ties", "max"), ("sum", "sum")])
def test_the_larger_counter_of_a_batch_norm_counts_unless_a_rule_says_otherwise(bench, method, merged):
    name = "l.num_batches_tracked"
    counters = tuple(np.array(value) for value in (1, 2, 3))
    (decision,) = [d for d in planned(bench, (name,), [counters], Rules.only(method)).decisions if d.name == name]
    assert (decision.action, decision.choice.method) == ("compute", merged)
    ours = planned(bench, (name,), [counters], Rules.only("ours"))
    assert {d.source for d in ours.decisions if d.name == name} == {"ours"}
    assert actions(planned(bench, ("l.steps",), [counters])) == {"l.steps": "conflict"}
