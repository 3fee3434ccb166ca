"""PEFT's LoRA adapters."""

from __future__ import annotations

import math

import numpy as np
import pytest
from adapters import MODEL_SPECS, RANK, floats, lora_config, lora_tensors, update_of
from helpers import ATTENTION, EMBEDDING, MLP, values

from git_theta_ext.errors import FormatError, UsageError
from git_theta_ext.model.tensor import TensorSpec
from git_theta_ext.update.files import MAX_CONFIG, read_update
from git_theta_ext.update.value import new_value
from git_theta_plugins.updates.lora import read_lora


def read(tensors=None, specs=MODEL_SPECS, **config):
    return read_lora(update_of(lora_tensors() if tensors is None else tensors, lora_config(**config)), specs)


def array(tensor):
    return np.frombuffer(tensor[2], "<f4").reshape(tensor[1]).astype(np.float64)


def applied(change, spec, old):
    return np.frombuffer(new_value(change, spec, memoryview(old), 2), "<f4").reshape(spec.shape)


@pytest.mark.parametrize(
    ("config", "scaling"),
    [
        ({}, 8 / RANK),
        ({"use_rslora": True}, 8 / math.sqrt(RANK)),
        ({"alpha_pattern": {r"^encoder\.layer\.0.attention": 2}}, 2 / RANK),
        ({"alpha_pattern": {"layer.1.attention": 2}}, 8 / RANK),
        ({"r": 7, "rank_pattern": {"attention": RANK}}, 8 / RANK),
    ],
)
def test_product_of_the_factors_is_added_with_its_scaling(config, scaling):
    tensors, name = lora_tensors(), ATTENTION[0]
    module = "base_model.model." + name.removesuffix(".weight")
    product = array(tensors[f"{module}.lora_B.weight"]) @ array(tensors[f"{module}.lora_A.weight"])
    old = values(name, 1)
    expected = np.frombuffer(old, "<f4").reshape(64, 64) + scaling * product
    np.testing.assert_allclose(applied(read(**config)[name], MODEL_SPECS[name], old), expected, rtol=1e-6, atol=1e-8)


def test_factors_are_kept_as_they_are():
    change = read()[ATTENTION[0]]
    assert change.encoding == "low_rank"
    assert [spec.shape for spec, _ in change.fit.tensors] == [(64, RANK), (RANK, 64)]


def test_embedding_has_its_factors_the_other_way_round():
    name = EMBEDDING
    left, right = floats((64, RANK), 1), floats((RANK, 256), 2)
    module = "base_model.model." + name.removesuffix(".weight")
    tensors = {f"{module}.lora_embedding_A": right, f"{module}.lora_embedding_B": left}
    old = values(name, 1)
    expected = np.frombuffer(old, "<f4").reshape(256, 64) + 2 * (array(left) @ array(right)).T
    tensors |= lora_tensors()  # of square layers: what an embedding is says nothing of them
    np.testing.assert_allclose(applied(read(tensors)[name], MODEL_SPECS[name], old), expected, rtol=1e-5, atol=1e-7)


def test_transposed_layers_are_known_by_the_configuration():
    specs = {"c.weight": TensorSpec.of("F32", (8, 8))}
    left, right = floats((8, RANK), 1), floats((RANK, 8), 2)
    tensors = {"base_model.model.c.lora_A.weight": right, "base_model.model.c.lora_B.weight": left}
    for transposed in (False, True):
        found = applied(
            read(tensors, specs, fan_in_fan_out=transposed)["c.weight"], specs["c.weight"], bytes(8 * 8 * 4)
        )
        product = 2 * (array(left) @ array(right))
        np.testing.assert_allclose(found, product.T if transposed else product, rtol=1e-5)


def test_layers_that_lie_otherwise_than_the_configuration_says_are_known_by_their_shape():
    specs = {"h.c_attn.weight": TensorSpec.of("F32", (6, 18)), "lm_head.weight": TensorSpec.of("F32", (30, 6))}
    tensors = {
        **{f"h.c_attn.lora_{side}.weight": floats(shape) for side, shape in (("A", (RANK, 6)), ("B", (18, RANK)))},
        **{f"lm_head.lora_{side}.weight": floats(shape) for side, shape in (("A", (RANK, 6)), ("B", (30, RANK)))},
    }
    for transposed in (False, True):
        changes = read(tensors, specs, fan_in_fan_out=transposed)
        assert [change.fit.params.get("swap", False) for change in changes.values()] == [True, False]


def test_square_layer_is_refused_where_the_configuration_is_wrong_for_another():
    specs = {"h.c_attn.weight": TensorSpec.of("F32", (6, 18)), "h.c_proj.weight": TensorSpec.of("F32", (6, 6))}
    tensors = {
        **{f"h.c_attn.lora_{side}.weight": floats(shape) for side, shape in (("A", (RANK, 6)), ("B", (18, RANK)))},
        **{f"h.c_proj.lora_{side}.weight": floats(shape) for side, shape in (("A", (RANK, 6)), ("B", (6, RANK)))},
    }
    assert set(read(tensors, specs, fan_in_fan_out=True)) == set(specs)
    with pytest.raises(UsageError, match="c_proj"):
        read(tensors, specs)


def test_convolution_counts_its_kernel_as_columns():
    specs = {"c.weight": TensorSpec.of("F32", (6, 2, 3, 3))}
    left, right = floats((6, RANK, 1, 1), 1), floats((RANK, 2, 3, 3), 2)
    tensors = {"base_model.model.c.lora_A.weight": right, "base_model.model.c.lora_B.weight": left}
    found = applied(read(tensors, specs)["c.weight"], specs["c.weight"], bytes(6 * 18 * 4))
    expected = 2 * np.einsum("orxy,rikl->oikl", array(left), array(right))
    np.testing.assert_allclose(found, expected, rtol=1e-5)


@pytest.mark.parametrize("wrapper", ["", ".modules_to_save", ".modules_to_save.default", ".base_layer"])
def test_whole_tensor_takes_the_place_of_its_parameter(wrapper):
    name = "encoder.layer.3.norm.bias"
    given = floats((64,), 9)
    tensors = {**lora_tensors(), f"base_model.model.encoder.layer.3.norm{wrapper}.bias": given}
    change = read(tensors)[name]
    assert new_value(change, MODEL_SPECS[name], memoryview(bytes(256)), 1) == given[2]


def test_factors_are_applied_to_what_the_adapter_says_that_their_module_began_with():
    start = floats((64, 64), 9)
    change = read({**lora_tensors(), "base_model.model.encoder.layer.0.attention.base_layer.weight": start})[
        ATTENTION[0]
    ]
    assert change.encoding == "low_rank"
    assert applied(change, MODEL_SPECS[ATTENTION[0]], bytes(64 * 64 * 4)).tolist() == (
        applied(read()[ATTENTION[0]], MODEL_SPECS[ATTENTION[0]], start[2]).tolist()
    )


def test_whole_tensor_is_rounded_to_the_parameters_type():
    given = floats((64, 128), 9)
    change = read({"base_model.model." + MLP[0]: given})[MLP[0]]
    found = new_value(change, MODEL_SPECS[MLP[0]], memoryview(bytes(64 * 128 * 2)), 1)
    wide = (np.frombuffer(found, "<u2").astype("<u4") << 16).view("<f4")
    np.testing.assert_allclose(wide, array(given).reshape(-1), rtol=2**-8)


@pytest.mark.parametrize(
    ("config", "complaint"),
    [
        ({"use_dora": True}, "DoRA"),
        ({"init_lora_weights": "pissa_niter_4"}, "pissa"),
        ({"peft_type": "IA3"}, "IA3"),
        ({"alpha_pattern": {"(a+)+$": 2}}, "not the name of a module"),
        ({"lora_bias": True}, "bias"),
        ({"trainable_token_indices": [1]}, "rows"),
        ({"layer_replication": [[0, 2], [1, 3]]}, "layers"),
        ({"init_lora_weights": "lora_ga"}, "lora_ga"),
    ],
)
def test_what_is_more_than_a_product_is_refused(config, complaint):
    with pytest.raises(UsageError, match=complaint):
        read(**config)


@pytest.mark.parametrize(
    "config",
    [
        {"r": 0},
        {"r": "4"},
        {"r": True},
        {"r": RANK + 1},
        {"lora_alpha": "8"},
        {"lora_alpha": float("nan")},
        {"lora_alpha": 10**400},
        {"lora_alpha": None},
        {"use_rslora": "yes"},
        {"alpha_pattern": ["x"]},
        {"alpha_pattern": {"x": []}},
    ],
)
def test_configuration_that_makes_no_sense_is_refused(config):
    with pytest.raises(FormatError, match=next(iter(config))):
        read(**config)


@pytest.mark.parametrize("config", [b"[]", b"{", b"\xff", b"[" * 100_000, b" " * (MAX_CONFIG + 1)])
def test_configuration_that_is_no_small_json_object_is_refused(config):
    with pytest.raises(FormatError, match="configuration"):
        read_update(memoryview(b""), "update", config)


def test_missing_configuration_is_refused():
    with pytest.raises(UsageError, match="adapter_config"):
        read_lora(update_of(lora_tensors()), MODEL_SPECS)


@pytest.mark.parametrize(
    ("key", "tensor", "error"),
    [
        ("base_model.model.no.such.lora_A.weight", floats((RANK, 64)), "lacks its other"),
        ("base_model.model.no.such.weight", floats((64,)), "'no.such.weight'"),
        ("base_model.model.encoder.layer.0.attention.lora_A.weight", floats((RANK, 65)), "do not fit"),
        ("base_model.model.encoder.layer.0.attention.lora_B.weight", floats((64, 5)), "do not fit"),
        ("base_model.model.encoder.layer.0.attention.lora_A.weight", ("I64", (RANK, 64), bytes(2048)), "factors are"),
        ("base_model.model.encoder.layer.0.attention.lora_A.weight", floats(()), "do not fit"),
        ("base_model.model.encoder.layer.0.attention.lora_A.weight", floats((RANK, 64), size=float("inf")), "infinite"),
        ("base_model.model.encoder.layer.0.attention.lora_magnitude_vector", floats((64,)), "unknown kind"),
        ("base_model.model.encoder.layer.0.attention.weight", floats((64, 64)), "two values"),
        ("base_model.model.encoder.layer.0.norm.bias", floats((65,)), "shapes cannot change"),
        ("base_model.model.position_ids", floats((1, 64)), "'position_ids'"),
    ],
)
def test_tensor_that_fits_nothing_is_an_error_that_names_it(key, tensor, error):
    with pytest.raises((FormatError, UsageError), match=error):
        read({**lora_tensors(), key: tensor})


def test_integers_are_not_changed_by_factors():
    tensors = {
        "base_model.model.ids.lora_A.weight": floats((RANK, 8)),
        "base_model.model.ids.lora_B.weight": floats((8, RANK)),
    }
    with pytest.raises(FormatError, match=r"ids\.weight"):
        read(tensors, {"ids.weight": TensorSpec.of("I64", (8, 8))})
