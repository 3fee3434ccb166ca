"""Mixtures of experts as Transformers loads them, and as mergekit makes them."""

from __future__ import annotations

import warnings
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from pathlib import Path

    from helpers import Repo

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")

SIZES = {
    "vocab_size": 16,
    "hidden_size": 16,
    "intermediate_size": 24,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "max_position_embeddings": 32,
}


def model(kind: str, seed: int, **more: object) -> Any:
    """Return a small dense model with weights that are drawn from a seed."""
    torch.manual_seed(seed)
    config = transformers.AutoConfig.for_model(kind, **SIZES, **more)
    made = transformers.AutoModelForCausalLM.from_config(config, dtype=torch.float32)
    for parameter in made.parameters():  # also norms and biases
        torch.nn.init.normal_(parameter, 0, 0.3)
    return made.eval()


def loaded(folder: Path) -> Any:
    """Return a model that Transformers loads without missing or unexpected weights."""
    made, info = transformers.AutoModelForCausalLM.from_pretrained(folder, output_loading_info=True)
    assert not any(info.values())
    return made.eval()


def logits(made: Any) -> torch.Tensor:
    """Return what a model says about some tokens."""
    with torch.no_grad():
        return made(torch.arange(16).reshape(2, 8)).logits


@pytest.mark.parametrize(
    ("kind", "more", "mixed"),
    [
        ("llama", {"rope_parameters": {"rope_theta": 500.0, "rope_type": "default"}}, "mixtral"),
        ("mistral", {"num_key_value_heads": 2, "sliding_window": 4}, "mixtral"),
        ("qwen2", {"num_key_value_heads": 2, "tie_word_embeddings": True}, "qwen2_moe"),
        ("qwen3", {"num_key_value_heads": 4, "head_dim": 8, "attention_bias": True}, "qwen3_moe"),
    ],
)
def test_a_mixture_of_equal_experts_computes_what_the_dense_model_does(
    repo: Repo, kind: str, more: dict[str, Any], mixed: str
) -> None:
    """The shares of the experts of a token add up to one, and the shared expert of Qwen2 begins at zero."""
    dense = model(kind, 0, **more)
    dense.save_pretrained(repo.path / "dense")
    repo.commit("dense")
    experts = "".join("  - {source_model: HEAD:dense}\n" for _ in range(3))
    repo.write(f"base_model: HEAD:dense\nexperts:\n{experts}gate_mode: uniform_random\n".encode(), "experts.yml")

    repo.git("theta", "moe", "experts.yml", "mixture")

    mixture = loaded(repo.path / "mixture")
    assert mixture.config.model_type == mixed
    torch.testing.assert_close(logits(mixture), logits(dense), rtol=1e-4, atol=1e-5)


def test_a_mixture_is_that_of_mergekit(repo: Repo) -> None:
    """Both are made of two models, with routers of the prompts that a tokenizer reads."""
    tokenizers = pytest.importorskip("tokenizers")
    names = ("dense", "math", "code")
    words = {"<s>": 0, "one": 1, "two": 2, "three": 3, "four": 4}
    tokenizer = tokenizers.Tokenizer(tokenizers.models.WordLevel(words, unk_token="<s>"))
    tokenizer.pre_tokenizer = tokenizers.pre_tokenizers.Whitespace()
    for seed, name in enumerate(names):
        model("llama", seed).save_pretrained(repo.path / name)
        fast = transformers.PreTrainedTokenizerFast(tokenizer_object=tokenizer, eos_token="<s>")
        fast.save_pretrained(repo.path / name)
    repo.commit("models")
    prompts = [
        {"positive_prompts": ["one two", "two"]},
        {"positive_prompts": ["three"], "negative_prompts": ["four one"]},
    ]

    def config(models: list[str]) -> dict[str, Any]:
        experts = [{"source_model": name, **prompt} for name, prompt in zip(models[1:], prompts, strict=True)]
        return {"base_model": models[0], "experts": experts, "gate_mode": "cheap_embed", "dtype": "float32"}

    paths = [str(repo.path / name) for name in names]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        scripts = pytest.importorskip("mergekit.scripts.moe")
        options = scripts.MergeOptions(quiet=True)
        scripts.build(scripts.MoEMergeConfig.model_validate(config(paths)), str(repo.path / "theirs"), options)
    repo.write(repr(config([f"HEAD:{name}" for name in names])).encode(), "experts.yml")

    repo.git("theta", "moe", "experts.yml", "ours")

    ours, theirs = (loaded(repo.path / name).state_dict() for name in ("ours", "theirs"))
    assert ours.keys() == theirs.keys()
    for name, value in theirs.items():
        if name.endswith(".gate.weight"):
            torch.testing.assert_close(ours[name], value, rtol=1e-6, atol=1e-7)
        else:
            assert torch.equal(ours[name], value), name
