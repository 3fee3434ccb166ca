"""Which parameters count as renamed, if several have one value."""

from git_theta_ext.comparison.renames import find_renames

STEP, BIAS = ("step", 8), ("bias", 3072)


def renames(old, new, value=BIAS):
    return find_renames(dict.fromkeys(old, value), dict.fromkeys(new, value))


def test_a_number_under_another_name_is_no_rename():
    assert renames(["state.loss"], ["scheduler.last_epoch"], STEP) == {}
    assert renames([f"state.{n}.step" for n in range(12)], ["trainer.step"], STEP) == {}


def test_a_number_whose_name_agrees_was_renamed():
    old, new = ([f"{name}.{n}.step" for n in range(12)] for name in ("state", "optimizer.state"))
    assert renames(old, new, STEP) == dict(zip(new, old, strict=True))


def test_numbers_of_which_several_names_agree_are_no_renames():
    assert renames(["a.step", "b.step"], ["c.step"], STEP) == {}
    assert renames(["a.step", "b.step"], ["c.step", "d.step"], STEP) == {}


def test_tensors_equal_to_many_are_renamed_as_far_as_names_agree():
    old = [f"encoder.layer.{n}.{role}.bias" for n in range(12) for role in ("query", "key", "value")]
    new = [f"blocks.{n}.{role}.bias" for n in range(12) for role in ("value", "query", "key")]
    found = renames(old, [*new, "head.bias"])
    assert found == {name: name.replace("blocks", "encoder.layer") for name in new}
    assert renames(old, ["head.bias"]) == {}
    found = renames(old, [f"blocks.{n}.{role}.bias" for n in range(12) for role in ("q", "k", "v")])
    assert found["blocks.11.q.bias"] == "encoder.layer.11.query.bias"
    assert len(found) == 36


def test_tied_tensors_keep_their_roles():
    old = ["model.embed_tokens.weight", "lm_head.weight"]
    new = ["transformer.lm_head.weight", "transformer.wte.weight"]
    assert renames(old, new) == {new[0]: old[1], new[1]: old[0]}
    assert renames(old[:1], ["wte.weight", "head.weight"]) == {"wte.weight": old[0]}
    assert renames(old, ["wte.weight"]) == {"wte.weight": old[0]}


def test_only_equal_values_are_paired_in_the_order_of_the_newer_version():
    gone, added = {"a": ("x", 16), "b": ("y", 16), "c": ("z", 16)}, {"e": ("y", 16), "d": ("x", 16), "f": ("w", 16)}
    assert list(find_renames(gone, added).items()) == [("e", "b"), ("d", "a")]
    assert find_renames({}, added) == find_renames(gone, {}) == {}
