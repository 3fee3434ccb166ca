"""Which parameters are parts of one quantised weight: by their types, and by names if types are ambiguous."""

import pytest

from git_theta_ext.merging.planning.quantised import quantised_units
from git_theta_ext.model.tensor import TensorSpec

WEIGHT = (64, 64)
TOGETHER = {
    "GPTQ": "qweight I32 8x64, qzeros I32 1x8, scales F16 1x64, g_idx I32 64",
    "bitsandbytes nf4": "weight U8 2048x1, weight.absmax U8 64, weight.quant_map F32 16, weight.nested_absmax F32 1,"
    "weight.nested_quant_map F32 256, weight.quant_state.bitsandbytes__nf4 U8 90",
    "bitsandbytes int8": "weight I8 64x64, SCB F32 64, weight_format U8",
    "8-bit floats by blocks": "weight F8_E4M3 64x64, weight_scale_inv F32 1x1",
    "8-bit floats by tensor": "weight F8_E4M3 64x64, weight_scale BF16, input_scale BF16",
    "NVFP4": "weight U8 64x32, weight_scale F8_E4M3 64x4, weight_scale_2 F32, input_scale F32",
    "compressed-tensors": "weight_packed U8 64x32, weight_scale F8_E4M3 64x4, weight_global_scale F32,"
    "input_global_scale F32, weight_shape I64 2",
    "MXFP8": "weight F8_E4M3 64x64, weight_scale F8_E8M0 64x2",
    "MLX": "weight U32 64x8, scales BF16 64x1, biases BF16 64x1",
    "quanto": "weight._data I8 64x64, weight._scale F32 64x1, input_scale F32, output_scale F32",
    "MXFP4": "gate_up_proj_blocks U8 4x64x2x16, gate_up_proj_scales U8 4x64x2",
    "AQLM": "codes I8 64x8x1, codebooks F16 1x256x1x8, scales F16 64x1x1x1",
    "HQQ": "W_q U8 32x64, scale F16 64x1, zero F16 64x1",
    "EETQ": "weight I8 64x64, weight_scales F16 64",
    "VPTQ": "indices I16 1x64x8, centroids.weight F16 1x2048, weight_scale F16 64, weight_bias F16 64",
    "QuIP": "Qidxs I16 64x8, SU F16 64, SV F16 64, Wscale F32",
    "SmoothQuant": "weight I8 64x64, dequant_scale F32, quant_bias I32 64",
    "torchao": "_weight_qdata I8 64x64, _weight_scale F32 64",
    "ComfyUI": "weight F8_E4M3 64x64, scale_weight F32, scale_input F32",
    "GGUF": "weight opaque144:NVFP4 64x4, scale F32 1",
    "scales of a name of its own, by rows": "weight I8 64x64, s F16 64",
    "scales of a name of its own, by blocks": "weight U8 64x32, levels F16 64x4",
    "scales of a name of its own, of all": "weight I8 64x64, a F32",
    "numbers in one dimension": "weight I8 4096, weight_scale F32",
}
APART = {
    "a plain weight": "weight F32 64x64, bias F32 64",
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


@pytest.mark.parametrize("text", TOGETHER.values(), ids=TOGETHER)
def test_the_parts_of_a_quantised_weight_are_one(text):
    found = versions(text)
    plain = versions("bias F16 64, norm.weight F16 64")
    assert quantised_units(found | plain) == [sorted(found)]


@pytest.mark.parametrize("text", APART.values(), ids=APART)
def test_what_is_no_quantised_weight_binds_nothing(text):
    assert quantised_units(versions(text)) == []
    assert quantised_units(versions(text, "")) == []


def test_each_of_several_weights_of_a_module_has_its_own_scales():
    names = [f"{kind}_proj{part}" for kind in ("gate_up", "down") for part in ("_blocks", "_scales")]
    found = versions(", ".join(f"{name} U8 4x64x2" for name in names), "mlp.experts.")
    found |= versions("gate_up_proj_bias BF16 4x64, down_proj_bias BF16 4x64", "mlp.experts.")
    unit = [[f"mlp.experts.{kind}_proj_{part}" for part in ("blocks", "scales")] for kind in ("down", "gate_up")]
    assert sorted(quantised_units(found)) == unit


def test_modules_are_apart_and_a_file_of_one_module_is_one():
    text = "weight I8 64x64, weight_scale F32 64"
    assert len(quantised_units(versions(text, "a.") | versions(text, "b."))) == 2
    assert quantised_units(versions(text, "")) == [["weight", "weight_scale"]]
    several = versions("a_weight I8 8x8, a_weight_scale F32, b_weight I8 8x8, b_weight_scale F32, temperature F32", "")
    assert quantised_units(several) == [["a_weight", "a_weight_scale"], ["b_weight", "b_weight_scale"]]


def test_a_weight_that_one_side_quantised_is_one_with_what_that_added():
    found = versions("weight F32 64x64, scale F32 64")
    assert quantised_units(found) == []
    found["l.weight"].append(TensorSpec.of("I8", WEIGHT))
    assert quantised_units(found) == [["l.scale", "l.weight"]]
