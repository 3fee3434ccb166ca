"""An adapter is described by its kind, ranks and scales."""

import json

import pytest

from git_theta_ext.merging.reporting.adapters import describe_adapter
from git_theta_ext.model.manifest import Manifest, Parameter, Skeleton
from git_theta_ext.model.model_version import ModelVersion
from git_theta_ext.model.tensor import Digest, TensorSpec


def version(config=None, **shapes):
    values = {name: Parameter(TensorSpec.of("F32", shape), Digest("a" * 64)) for name, shape in shapes.items()}
    manifest = Manifest("safetensors", Skeleton(Digest("b" * 64), 1), values)
    return ModelVersion({"adapter_model.safetensors": manifest}, config=config and json.dumps(config).encode())


def lora(module, rank):
    return {f"{module}.lora_A.weight": (rank, 4), f"{module}.lora_B.weight": (3, rank)}


LORA = {"peft_type": "LORA", "r": 16, "lora_alpha": 32}
DESCRIBED = {
    "one rank": (LORA, lora("l", 16) | lora("k", 16), "LoRA, 2 modules, r 16, alpha 32 (scale 2)"),
    "rslora": ({**LORA, "use_rslora": True}, lora("l", 16), "LoRA, 1 module, r 16, alpha 32 (scale 8), rslora"),
    "patterns": (
        {**LORA, "rank_pattern": {"k": 8}, "base_model_name_or_path": "a/b"},
        lora("l", 16) | lora("k", 8),
        "LoRA, 2 modules, r 8 to 16, alpha 32 (scale 2 to 4), of a/b",
    ),
    "no configuration": (None, lora("l", 4), "LoRA, 1 module, r 4"),
    "tensors": (LORA, {**lora("l", 4), "l.alpha": ()}, "LoRA, 1 module, r 4, alphas are tensors"),
    "not understood": ({**LORA, "lora_alpha": "x"}, lora("l", 4), "LoRA, 1 module, r 4"),
    "DoRA": (LORA, {**lora("l", 16), "l.lora_magnitude_vector": (3,)}, "DoRA, 1 module, r 16, alpha 32 (scale 2)"),
    "others": ({"peft_type": "IA3"}, {"l.ia3_l": (3,)}, "IA3"),
    "LoHa": (None, {"l.hada_w1_a": (3, 2)}, "LoHa"),
}


@pytest.mark.parametrize(("config", "shapes", "text"), DESCRIBED.values(), ids=DESCRIBED)
def test_adapters_are_described(config, shapes, text):
    assert str(describe_adapter(version(config, **shapes))) == text


def test_a_model_is_no_adapter():
    assert describe_adapter(version(None, weight=(3, 4))) is None


def test_json_has_the_bounds_of_ranks_and_scales():
    found = describe_adapter(version({**LORA, "rank_pattern": {"k": 8}}, **lora("l", 16), **lora("k", 8))).to_dict()
    assert (found["rank"], found["alpha"], found["scale"]) == ([8, 16], [32, 32], [2.0, 4.0])
    assert describe_adapter(version({"peft_type": "IA3"}, x=(1,))).to_dict()["rank"] is None
