"""The names and types that exporters give to the parts of a quantised weight: data only.

A part's name is written relative to the weight that it belongs to. ``*`` stands for the weight's own name within its
module, which is ``weight`` or, for the experts of a mixture, such as ``down_proj``: for ``mlp.up_proj.weight``, the
pattern ``*_scale`` is ``mlp.up_proj.weight_scale``, and ``_*_qdata`` is ``mlp.up_proj._weight_qdata``. A pattern
without ``*`` is a name in the module of a parameter ``weight``: ``qzeros`` is ``mlp.up_proj.qzeros``.
"""

from __future__ import annotations

import re

from git_theta_ext.records import dataclass

INTEGERS = frozenset({"U8", "I8", "U16", "I16", "U32", "I32"})
FLOATS_8 = frozenset({"F8_E4M3", "F8_E5M2", "F8_E4M3FNUZ", "F8_E5M2FNUZ"})
_BYTES = frozenset({"U8", "I8"})
_WORDS = frozenset({"I32", "U32", "I16", "U16", "I8", "U8", "I64"})
ANY: frozenset[str] = frozenset()
OPAQUE = "opaque"
"""The kind of types of which only the size and a label are known."""
BLOCKS = re.compile(r"opaque[0-9]+:((?:I?Q|TQ)[0-9]\w*|(?:MX|NV)FP[0-9]\w*|ggml[0-9]+)")
"""Names of the types of GGUF's blocks, such as ``opaque272:Q8_0``."""


def _names(text: str) -> tuple[str, ...]:
    return tuple(text.split())


@dataclass(frozen=True)
class Scheme:
    """A way to represent a quantised weight.

    Attributes:
        name: Name for people, such as ``gptq``.
        tools: Who writes it.
        numbers: Patterns of the tensor with the quantised numbers; the first one that exists counts.
        types: Element types of these numbers, or their kinds; empty for any, if the names leave no doubt.
        parts: Patterns of everything else that belongs to the weight.
        needs: Parts of which at least one must exist. By default any part.
        bits: Bits of a number; 0 if they depend on the weight.
        zeros: Pattern of zero points that are packed into 32-bit integers, one for each of the ``scales``, from which
            the bits follow; empty if there are none.
        scales: Pattern of the scales.
        columns: Whether the scales have as many columns as the numbers, unless there is a ``g_idx``.
    """

    name: str
    tools: str
    numbers: tuple[str, ...]
    types: frozenset[str]
    parts: tuple[str, ...]
    needs: tuple[str, ...] = ()
    bits: int = 0
    zeros: str = ""
    scales: str = ""
    columns: bool = False


ACTIVATIONS = _names(
    "input_scale input_scale_ub input_zero_point input_global_scale input_g_idx output_scale output_zero_point "
    "output_global_scale activation_scale *_activation_scale input_activation_scale output_activation_scale "
    "k_scale v_scale q_scale kv_scale prob_scale k_zero_point v_zero_point q_zero_point k_global_scale v_global_scale"
)
"""Parts that scale what goes into and out of a layer; several layers may share them."""

SCHEMES: tuple[Scheme, ...] = (
    Scheme(
        "svdquant",
        "Nunchaku",
        ("qweight",),
        _BYTES,
        _names(
            "wscales wcscales wtscale smooth_factor smooth_factor_orig smooth smooth_orig proj_down proj_up "
            "lora_down lora_up"
        ),
        ("wscales",),
        bits=4,
    ),
    Scheme(
        "paroquant",
        "ParoQuant, GPTQModel",
        ("qweight",),
        _WORDS,
        ("qzeros", "scales", "theta", "pairs", "channel_scales"),
        ("theta",),
        zeros="qzeros",
        scales="scales",
    ),
    Scheme(
        "fp_quant",
        "FP-Quant",
        ("qweight",),
        _BYTES,
        _names("scales dqweight weight_global_scale act_global_scale forward_hadamard_matrix backward_hadamard_matrix"),
        ("weight_global_scale", "act_global_scale", "forward_hadamard_matrix"),
        bits=4,
    ),
    Scheme(
        "gptq",
        "GPTQModel, AutoGPTQ, AutoRound, Optimum",
        ("qweight",),
        _WORDS,
        ("qzeros", "scales", "g_idx"),
        zeros="qzeros",
        scales="scales",
        columns=True,
    ),
    Scheme(
        "awq",
        "AutoAWQ, llm-awq, GPTQModel",
        ("qweight",),
        _WORDS,
        ("qzeros", "scales", "scaled_zeros"),
        zeros="qzeros",
        scales="scales",
    ),
    Scheme(
        "exl2",
        "ExLlamaV2",
        ("q_weight",),
        _WORDS,
        _names("q_scale q_scale_max q_groups q_group_map q_perm q_invperm"),
        ("q_scale",),
    ),
    Scheme("exl3", "ExLlamaV3", ("trellis",), _WORDS, ("suh", "svh", "su", "sv", "mcg", "mul1", "scale")),
    Scheme("marlin", "Marlin", ("B",), _WORDS, ("s", "workspace"), ("s",), bits=4),
    Scheme("qqq", "QQQ, GPTQModel", ("B",), _WORDS, ("s_channel", "s_group", "workspace"), ("s_channel",), bits=4),
    Scheme(
        "bitsandbytes",
        "bitsandbytes 4-bit (nf4, fp4), with or without nested absmax",
        ("*",),
        ANY,  # bnb_4bit_quant_storage may be a float type, in which the numbers are packed
        _names(
            "*.absmax *.quant_map *.nested_absmax *.nested_quant_map *.quant_state.bitsandbytes__nf4 "
            "*.quant_state.bitsandbytes__fp4"
        ),
        bits=4,
    ),
    Scheme("bitsandbytes", "bitsandbytes 8-bit", ("*",), _BYTES, ("SCB", "CB", "weight_format"), ("SCB",), bits=8),
    Scheme(
        "nvfp4",
        "compressed-tensors, llm-compressor",
        ("*_packed",),
        _BYTES,
        ("*_scale", "*_global_scale", "*_shape", "*_g_idx", "*_zero_point", *ACTIVATIONS),
        ("*_global_scale",),
        bits=4,
    ),
    Scheme("nvfp4", "NVIDIA ModelOpt", ("*",), _BYTES, ("*_scale", "*_scale_2", *ACTIVATIONS), ("*_scale_2",), bits=4),
    Scheme(
        "compressed-tensors",
        "compressed-tensors, llm-compressor (integers, MXFP4, MXFP6)",
        ("*_packed",),
        _WORDS,
        ("*_scale", "*_zero_point", "*_shape", "*_g_idx", *ACTIVATIONS),
        zeros="*_zero_point",
        scales="*_scale",
    ),
    Scheme(
        "sparse",
        "compressed-tensors (sparse)",
        ("*.bitmask", "*_bitmask"),
        _BYTES,
        ("*.compressed", "*.shape", "*.row_offsets", "*_compressed", "*_shape", "*_row_offsets"),
        ("*.compressed", "*_compressed"),
    ),
    Scheme(
        "fp8",
        "compressed-tensors, Transformers, DeepSeek, ModelOpt, fbgemm, ComfyUI",
        ("*",),
        FLOATS_8,
        (
            *("*_scale", "*_scales", "*_scale_inv", "*_zero_point", "*_g_idx", "*_shape"),
            *("scale_weight", "scale_input", "comfy_quant", *ACTIVATIONS),
        ),
        bits=8,
    ),
    Scheme(
        "int8",
        "compressed-tensors, EETQ, SmoothQuant",
        ("*",),
        frozenset({"I8"}),
        (
            *("*_scale", "*_scales", "*_zero_point", "*_g_idx", "*_shape"),
            *("scale_weight", "scale_input", "dequant_scale", "quant_bias", "comfy_quant", *ACTIVATIONS),
        ),
        ("*_scale", "*_scales", "*_zero_point", "scale_weight", "dequant_scale"),
        bits=8,
    ),
    Scheme(
        "mxfp4",
        "gpt-oss, Transformers",
        ("*_blocks",),
        _BYTES,
        ("*_scales", "*_bias"),  # the bias is added to the product of the experts' weight in the same kernel
        ("*_scales",),
        bits=4,
    ),
    Scheme(
        "mlx",
        "MLX, Transformers (Metal)",
        ("*",),
        frozenset({"U32"}),
        ("scales", "biases", "qbiases"),
        ("scales",),
    ),
    Scheme(
        "hqq",
        "HQQ, Transformers",
        ("W_q",),
        ANY,  # view_as_float stores the packed integers as floats
        _names(
            "scale zero meta nbits group_size shape axis packing unpack_view_dtype view_as_float quant_scale "
            "quant_zero compute_dtype offload_meta encoded_state_dict stores_quant_config channel_wise optimize "
            "round_zero scale_q zero_q meta_scale meta_zero scale_quant_params zero_quant_params"
        ),
        ("scale", "scale_q", "meta"),
    ),
    Scheme(
        "torchao",
        "torchao (flattened for safetensors)",
        ("_*_qdata", "*:qdata"),
        ANY,
        _names(
            "_*_scale _*_zero_point _*_per_tensor_scale _*_act_per_tensor_scale _*_act_pre_scale _*_act_scale "
            "_*_scale_and_zero *:scale *:zero_point *:per_tensor_scale *:act_per_tensor_scale *:act_pre_scale "
            "*:act_scale *:scale_and_zero"
        ),
    ),
    Scheme(
        "quanto",
        "Optimum Quanto",
        ("*._data", "*._data._data"),
        INTEGERS | FLOATS_8,
        ("*._scale", "*._shift", *ACTIVATIONS),
        ("*._scale",),
    ),
    Scheme("aqlm", "AQLM", ("codes",), _WORDS, ("codebooks", "scales"), ("codebooks",)),
    Scheme(
        "vptq",
        "VPTQ",
        ("indices",),
        _WORDS,
        _names(
            "centroids.weight res_indices res_centroids.weight outlier_indices outlier_centroids.weight weight_scale "
            "weight_bias perm"
        ),
        ("centroids.weight",),
    ),
    Scheme("quip", "QuIP#, QTIP", ("Qidxs", "trellis"), _WORDS, _names("SU SV Wscale codebook_id A B tlut rcp")),
    Scheme("higgs", "HIGGS, FLUTE", ("*",), INTEGERS, ("scales", "tables", "tables2"), ("tables",)),
    Scheme(
        "spqr",
        "SpQR",
        ("dense_weights",),
        _WORDS,
        ("row_offsets", "col_vals", "in_perm"),
    ),
    Scheme("gguf", "llama.cpp: one tensor of blocks", ("*",), frozenset({OPAQUE}), ("scale", "input_scale"), ("*",)),
    Scheme(
        "packed",
        "BitNet and others that pack numbers into integers",
        ("*", "*_quantized"),
        INTEGERS,
        ("*_scale", "*_scales", "*_zero_point", "*_zeros", *ACTIVATIONS),
        ("*_scale", "*_scales"),
    ),
)
"""All schemes. Of several that fit the same numbers, the first one counts."""

CERTAIN = frozenset(
    _names(
        "qweight qzeros g_idx SCB *_packed *_scale_inv *_scale_2 *.absmax *.quant_map *.nested_absmax "
        "*.nested_quant_map *.quant_state.bitsandbytes__nf4 *.quant_state.bitsandbytes__fp4 *_scale *_zero_point "
        "*_global_scale *._scale *._shift W_q wscales"
    )
)
"""Names that only parts of quantised weights have, if ``*`` is ``weight``: they count without the numbers, too."""

SHARED = frozenset({"g_idx", *ACTIVATIONS}) - {"*_activation_scale"}
"""Parts that several modules may share: in the module around them, they belong to all of these."""
