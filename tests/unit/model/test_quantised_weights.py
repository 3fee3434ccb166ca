"""Which parameters are parts of one quantised weight: names, types and shapes as exporters write them."""

import time

import pytest

from git_theta_ext.model.quantisation_schemes import SCHEMES
from git_theta_ext.model.quantised_weights import quantised_weights
from git_theta_ext.model.tensor import TensorSpec
from git_theta_ext.model.units import Unit

# A linear layer from 128 to 256 features, as each exporter saves it.
EXPORTED = [
    ("gptq, 4 bits", "qweight I32 16x256, qzeros I32 1x32, scales F16 1x256, g_idx I32 128"),
    ("gptq, 8 bits", "qweight I32 32x256, qzeros I32 2x64, scales F16 2x256"),
    ("gptq, I32", "qweight I32 16x256, scales F16 1x256, g_idx I32 128"),
    ("awq, 4 bits", "qweight I32 128x32, qzeros I32 1x32, scales F16 1x256"),
    (
        "bitsandbytes, 4 bits",
        (
            "weight U8 16384x1, weight.absmax U8 512, weight.quant_map F32 16, weight.nested_absmax F32 2,"
            "weight.nested_quant_map F32 256, weight.quant_state.bitsandbytes__nf4 U8 169"
        ),
    ),
    (
        "bitsandbytes, 4 bits",
        "weight BF16 8192x1, weight.absmax F32 512, weight.quant_map F32 16,weight.quant_state.bitsandbytes__fp4 U8 79",
    ),
    ("bitsandbytes, 8 bits", "weight I8 256x128, SCB F32 256, weight_format U8"),
    (
        "compressed-tensors, 4 bits",
        (
            "weight_packed I32 256x16, weight_scale F32 256x1, weight_zero_point I32 32x1,"
            "weight_shape I64 2, weight_g_idx I32 128"
        ),
    ),
    ("compressed-tensors, U8", "weight_packed U8 256x64, weight_scale U8 256x4"),
    ("int8, 8 bits", "weight I8 256x128, weight_scale F32 256x1, input_scale F32 1, input_zero_point I8 1"),
    ("int8, 8 bits", "weight I8 128x256, weight_scales F16 256"),
    ("int8, 8 bits", "weight I8 256x128, dequant_scale F32, quant_bias I32 256"),
    ("fp8, 8 bits", "weight F8_E4M3 256x128, weight_scale F32 1, input_scale F32 1, k_scale F32, v_scale F32"),
    ("fp8, 8 bits", "weight F8_E4M3 256x128, weight_scale_inv F32 2x1, activation_scale F32"),
    ("fp8, 8 bits", "weight F8_E4M3 256x128, weight_scale U8 256x4"),
    ("fp8, 8 bits", "weight F8_E4M3 256x128, scale_weight F32, scale_input F32"),
    (
        "nvfp4, 4 bits",
        "weight_packed U8 256x64, weight_scale F8_E4M3 256x8, weight_global_scale F32 1,input_global_scale F32 1",
    ),
    ("nvfp4, 4 bits", "weight U8 256x64, weight_scale F8_E4M3 256x8, weight_scale_2 F32, input_scale F32"),
    ("mlx, U32", "weight U32 256x16, scales F32 256x2, biases F32 256x2"),
    ("mlx, U32", "weight U32 256x16, scales U8 256x4"),
    (
        "hqq, U8",
        (
            "W_q U8 256x64, scale F32 512x1, zero F32 512x1, nbits I32, group_size I32, shape I64 2, axis I32,"
            "packing U8 7, unpack_view_dtype U8 11, view_as_float U8, quant_scale U8, quant_zero U8,"
            "compute_dtype U8 13, offload_meta U8, encoded_state_dict U8, stores_quant_config U8, channel_wise U8,"
            "optimize U8, round_zero U8"
        ),
    ),
    ("torchao, I8", "_weight_qdata I8 256x128, _weight_scale F32 256x1, _weight_zero_point I8 256x1"),
    ("torchao, F8_E4M3", "_weight_qdata F8_E4M3 256x128, _weight_scale F32 256x1"),
    ("torchao, U8", "_weight_qdata U8 256x64, _weight_scale F8_E4M3 64x32, _weight_per_tensor_scale F32"),
    ("torchao, I8", "weight:qdata I8 256x128, weight:scale F32 256x1"),
    ("quanto, I8", "weight._data I8 256x128, weight._scale F32 256x1, input_scale F32, output_scale F32"),
    ("quanto, U8", "weight._data._data U8 128x128, weight._scale F32 256x1, weight._shift F32 256x1, input_scale F32"),
    ("aqlm, I8", "codes I8 32x16x1, codebooks F16 1x256x1x8, scales F16 32x1x1x1"),
    (
        "vptq, I16",
        "indices I16 1x64x8, centroids.weight F16 1x2048, weight_scale F16 64, weight_bias F16 64, perm I16 64",
    ),
    ("quip, I16", "Qidxs I16 64x8, SU F16 64, SV F16 64, Wscale F32"),
    ("higgs, I16", "weight I16 64x256, scales F16 256x2, tables F16 16, tables2 F32 16x16x2"),
    ("exl2, I32", "q_weight I32 16x256, q_scale I32 1x32, q_scale_max F16 1, q_groups I16 2, q_invperm I32 128"),
    (
        "svdquant, 4 bits",
        "qweight I8 256x64, wscales BF16 2x256, smooth_factor BF16 128, proj_down BF16 128x32,proj_up BF16 256x32",
    ),
    ("qqq, 4 bits", "B I32 8x512, s_channel F32 1x256, s_group F16 1x256"),
    ("packed, U8", "weight U8 64x128, weight_scale BF16 1"),
    ("gguf, NVFP4", "weight opaque288:NVFP4 256x2, scale F32 1, input_scale F32 1"),
]
OTHERS = {
    "scales of a name of its own, by rows": "weight I8 64x64, s F16 64",
    "scales of a name of its own, by blocks": "weight U8 64x32, levels F16 64x4",
    "scales of a name of its own, of all": "weight I8 64x64, a F32",
    "numbers in one dimension": "weight I8 4096, weight_scale F32",
    "a part that its exporter added": "weight U8 256x64, weight_scale F8_E4M3 256x8, weight_scale_2 F32,"
    "outlier_scale F32 9",
}
EXPERTS = {
    "mxfp4, 4 bits": "gate_up_proj_blocks U8 4x64x2x16, gate_up_proj_scales U8 4x64x2, gate_up_proj_bias BF16 4x64",
    "fp8, 8 bits": "gate_up_proj F8_E4M3 4x64x64, gate_up_proj_scale_inv F32 4x1x1,gate_up_proj_activation_scale F32 4",
    "bitsandbytes, 4 bits": "gate_up_proj U8 8192x1, gate_up_proj.absmax F32 128, gate_up_proj.quant_map F32 16,"
    "gate_up_proj.quant_state.bitsandbytes__nf4 U8 90",
    "torchao, I8": "_gate_up_proj_qdata I8 4x64x64, _gate_up_proj_scale F32 4x64x1",
}
APART = {
    "a plain weight": "weight F32 64x64, bias F32 64",
    "scales of a plain layer": "weight F32 64x64, scales F32 64, biases F32 64",
    "a layer norm with a scale": "scale F32 64, bias F32 64, weight F32 64",
    "a plain weight with a scale of its own": "weight F32 64x64, weight_scale F32 64, input_scale F32",
    "a plain bias": "weight I8 64x64, bias F16 64",
    "8-bit floats without scales": "weight F8_E4M3 64x64, bias F8_E4M3 64",
    "a batch norm": "weight F32 64, bias F32 64, running_mean F32 64, running_var F32 64, num_batches_tracked I64",
    "position ids of 64 bits": "position_ids I64 1x64, class_embedding F32 64, patch_scale F32",
    "position ids of 32 bits": "position_ids I32 1x64, class_embedding F32 64, patch_scale F32",
    "an embedding with a buffer of integers": "weight F32 64x64, hashes I32 64x1, logit_scale F32",
    "a layer norm with a buffer of integers": "weight F32 64, bias F32 64, groups U8 8x8, eps_scale F32",
    "windowed attention": "relative_position_index I64 49x49, relative_position_bias_table F32 169x4, logit_scale F32",
    "a mask": "mask BOOL 64x64, logit_scale F32 4x1x1, tau F32 64",
    "a mask of bytes": "causal_mask U8 64x64, logit_scale F32 64",
    "matrices of 8-bit floats beside a scale": "text_projection F8_E4M3 64x64, logit_scale F32",
    "a table of scales in 8-bit floats": "scale_shift_table F8_E4M3 6x64, shift F32 64",
    "integers beside a larger matrix": "classes U8 10x1, prototypes F32 10x64",
}


def versions(text, module="l."):
    found = {}
    for part in text.split(","):
        name, kind, *shape = part.split()
        sizes = [int(size) for size in shape[0].split("x")] if shape else []
        found[module + name] = [TensorSpec.of(kind, sizes)]
    return found


def members(found):
    return [list(unit.members) for unit in quantised_weights(found)]


@pytest.mark.parametrize(("detail", "text"), EXPORTED)
def test_the_parts_that_an_exporter_writes_are_one(detail, text):
    found = versions(text, "layers.0.up_proj.")
    plain = versions("bias F16 64, norm.weight F16 64", "layers.0.up_proj.")
    (unit,) = quantised_weights(found | plain)
    assert list(unit.members) == sorted(found)
    assert unit.label == f"layers.0.up_proj ({detail})"


@pytest.mark.parametrize("text", OTHERS.values(), ids=OTHERS)
def test_the_parts_of_an_unknown_exporter_are_one(text):
    found = versions(text)
    assert members(found | versions("bias F16 64, norm.weight F16 64")) == [sorted(found)]


@pytest.mark.parametrize(("detail", "text"), EXPERTS.items(), ids=EXPERTS)
def test_each_of_several_weights_of_a_module_has_its_own_parts(detail, text):
    found = versions(text, "mlp.experts.")
    down = versions(text.replace("gate_up_proj", "down_proj"), "mlp.experts.")
    router = versions("router BF16 4x64, router_bias BF16 4", "mlp.experts.")
    units = {unit.label: list(unit.members) for unit in quantised_weights(found | down | router)}
    labels = [f"mlp.experts.{name} ({detail})" for name in ("down_proj", "gate_up_proj")]
    assert units == dict(zip(labels, (sorted(down), sorted(found)), strict=True))


@pytest.mark.parametrize("text", APART.values(), ids=APART)
def test_what_is_no_quantised_weight_binds_nothing(text):
    assert members(versions(text)) == []
    assert members(versions(text, "")) == []


def test_every_scheme_has_an_example():
    shown = {detail.split(",")[0] for detail in (*dict(EXPORTED), *EXPERTS)}
    assert {scheme.name for scheme in SCHEMES} - shown == {"paroquant", "fp_quant", "exl3", "marlin", "sparse", "spqr"}


def test_a_block_of_gguf_is_a_weight_of_its_own():
    (unit,) = quantised_weights(versions("weight opaque272:Q8_0 64x2, norm.weight F32 64", "blk.0.attn_q."))
    assert (unit.label, unit.members) == ("blk.0.attn_q (gguf, Q8_0)", ("blk.0.attn_q.weight",))
    assert members(versions("names opaque64:S8 4x4, words opaque128:U4 3")) == []


def test_modules_are_apart_and_a_file_of_one_module_is_one():
    text = "weight I8 64x64, weight_scale F32 64"
    assert len(members(versions(text, "a.") | versions(text, "b."))) == 2
    (alone,) = quantised_weights(versions(text, ""))
    assert (alone.label, alone.members) == ("weight (int8, 8 bits)", ("weight", "weight_scale"))
    several = versions("a_weight I8 8x8, a_weight_scale F32, b_weight I8 8x8, b_weight_scale F32, temperature F32", "")
    assert members(several) == [["a_weight", "a_weight_scale"], ["b_weight", "b_weight_scale"]]


def test_a_weight_that_one_side_quantised_is_one_with_what_that_added():
    found = versions("weight F32 64x64, scale F32 64")
    assert members(found) == []
    found["l.weight"].append(TensorSpec.of("I8", (64, 64)))
    assert members(found) == [["l.scale", "l.weight"]]


def test_the_versions_of_a_weight_are_one_whatever_they_are():
    names = (
        ("weight", "BF16", (256, 128)),
        ("qweight", "I32", (16, 256)),
        ("qzeros", "I32", (1, 32)),
        ("scales", "F16", (1, 256)),
        ("W_q", "U8", (256, 64)),
        ("scale", "F16", (512, 1)),
    )
    plain, gptq, hqq = {"weight"}, {"qweight", "qzeros", "scales"}, {"W_q", "scale"}
    found = {
        f"l.{name}": [TensorSpec.of(kind, shape) if name in version else None for version in (gptq, plain, hqq)]
        for name, kind, shape in names
    }
    (unit,) = quantised_weights(found)
    assert list(unit.members) == sorted(found)
    assert unit.label == "l (gptq, 4 bits or BF16 or hqq, U8)"


@pytest.mark.parametrize("suffix", ["", ".weight", ".default.weight"])
def test_an_adapter_of_a_quantised_weight_is_apart(suffix):
    quantised = versions("weight U8 2048x1, weight.absmax F32 64, weight.quant_map F32 16")
    adapter = versions(f"lora_A{suffix} F32 8x64, lora_B{suffix} F32 64x8")
    assert members(quantised | adapter) == [sorted(quantised)]


def test_experts_that_one_side_made_plain_are_one():
    blocks = TensorSpec.of("U8", (4, 64, 2, 16))
    scales = TensorSpec.of("U8", (4, 64, 2))
    plain = TensorSpec.of("BF16", (4, 64, 64))
    found = {"e.down_proj_blocks": [blocks, None], "e.down_proj_scales": [scales, None], "e.down_proj": [None, plain]}
    (unit,) = quantised_weights(found)
    assert unit == Unit("e.down_proj", "quantised weight", ("mxfp4, 4 bits", "BF16"), tuple(sorted(found)))


def test_parts_without_their_numbers_count_if_their_names_leave_no_doubt():
    assert members(versions("weight.absmax F32 64, weight.quant_map F32 16")) == [
        ["l.weight.absmax", "l.weight.quant_map"]
    ]
    assert members(versions("weight_scale F32 64")) == [["l.weight_scale"]]
    assert members(versions("scales F32 64, scale F32 64, biases F32 64, zero F32 64, logit_scale F32")) == []


def test_what_modules_share_belongs_to_all_of_them():
    text = "weight F8_E4M3 64x64, weight_scale F32"
    layers = {name: versions(text, f"attn.{name}.") for name in ("q_proj", "k_proj", "v_proj")}
    every = {name: specs for layer in layers.values() for name, specs in layer.items()}
    assert members(every | versions("input_scale F32", "attn.")) == [sorted([*every, "attn.input_scale"])]
    assert [len(unit) for unit in members(every | versions("k_scale F32, v_scale F32", "attn."))] == [3, 2, 3]
    assert quantised_weights(every | versions("input_scale F32", "attn."))[0].name == "attn"


def test_scales_that_are_larger_than_the_weight_are_not_its_own():
    labels = [quantised_weights(versions(f"weight U32 {n}x{n}, scales F32 64x64"))[0].label for n in (2, 64)]
    assert labels == ["l (U32)", "l (mlx, U32)"]


def test_the_time_is_linear():
    layer = "qweight I32 16x256, qzeros I32 1x32, scales F16 1x256, bias F16 256"
    found = {name: specs for n in range(5000) for name, specs in versions(layer, f"layers.{n}.up_proj.").items()}
    start = time.process_time()
    assert len(quantised_weights(found)) == 5000
    assert time.process_time() - start < 2, "each weight was compared with others"
