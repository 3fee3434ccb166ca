"""The configuration of a mixture says what that of the dense model leaves out."""

from __future__ import annotations

import json

import pytest

from git_theta_ext.errors import MergeError
from git_theta_ext.merging.experts.layouts import layout_for
from git_theta_ext.merging.stacking.config import LayersConfig


def config(**content: object) -> LayersConfig:
    """Return a configuration, as Transformers writes it."""
    return LayersConfig.parse((json.dumps({"num_hidden_layers": 2, **content}, indent=2) + "\n").encode(), "m")


def mixed(**content: object) -> dict[str, object]:
    """Return the configuration of a mixture of four experts, of which a token takes one."""
    dense = config(num_attention_heads=8, **content)
    made: dict[str, object] = json.loads(layout_for(dense, "m").config(dense, 4, 1, (12, 8)))
    return made


def test_what_the_configuration_says_stays():
    said = {"num_key_value_heads": 4, "rms_norm_eps": 1e-4, "sliding_window": None, "rope_theta": 5.0, "vocab_size": 7}
    made = mixed(model_type="mistral", architectures=["MistralForCausalLM"], **said)
    assert said.items() <= made.items()
    assert made["architectures"] == ["MixtralForCausalLM"]
    assert (made["num_local_experts"], made["num_experts_per_tok"]) == (4, 1)


@pytest.mark.parametrize(
    ("kind", "defaults"),
    [
        ("llama", {"num_key_value_heads": 8, "rms_norm_eps": 1e-6, "max_position_embeddings": 2048, "rope_theta": 1e4}),
        ("mistral", {"num_key_value_heads": 8, "sliding_window": 4096, "rope_theta": 1e4}),
        ("qwen2", {"num_key_value_heads": 32, "shared_expert_intermediate_size": 12, "norm_topk_prob": True}),
        ("qwen3", {"num_key_value_heads": 32, "head_dim": 128, "moe_intermediate_size": 12, "norm_topk_prob": True}),
    ],
)
def test_defaults_of_the_dense_model_are_written(kind, defaults):
    made = mixed(model_type=kind)
    assert defaults.items() <= made.items()
    assert (made["hidden_size"], made["intermediate_size"]) == (8, 12)


def test_rotary_embeddings_of_newer_versions_say_their_own_base():
    assert "rope_theta" not in mixed(model_type="llama", rope_parameters={"rope_theta": 3.0})


def test_code_beside_the_dense_model_does_not_load_the_mixture():
    assert "auto_map" not in mixed(model_type="llama", auto_map={"AutoConfig": "x.Y"})


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({"model_type": "gpt2"}, "m has the model_type 'gpt2'; experts are made of llama, mistral"),
        ({"model_type": ["llama"]}, "m has the model_type"),
        ({"model_type": "qwen3", "use_sliding_window": True}, "m has use_sliding_window"),
    ],
)
def test_other_architectures_are_errors(content, message):
    with pytest.raises(MergeError, match=message.replace("[", r"\[")):
        layout_for(config(**content), "m")


def test_a_model_without_a_configuration_is_an_error():
    with pytest.raises(MergeError, match=r"m has no config\.json"):
        layout_for(None, "m")
