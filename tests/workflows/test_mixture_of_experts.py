"""Mixtures of experts, which are made of dense models."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from helpers import Repo, WithHistory, safetensors

if TYPE_CHECKING:
    from collections.abc import Mapping

    from helpers import Tensor

LAYERS, HIDDEN, INNER, TOKENS = 2, 4, 6, 5
EXPERTS = """base_model: "base:m"
experts:
  - {source_model: "math:m"}
  - {source_model: "code:m"}
gate_mode: random
seed: 7
"""
PROMPTS = """base_model: "base:m"
experts:
  - {source_model: "math:m", positive_prompts: [[1, 2], [4]]}
  - {source_model: "code:m", positive_prompts: [[3]], negative_prompts: [[0, 0, 1]]}
gate_mode: cheap_embed
"""


def tensor(seed: int, *shape: int) -> Tensor:
    """Return a tensor that is drawn from a seed."""
    return "F32", shape, np.random.default_rng(seed).normal(0, 1, shape).astype("<f4").tobytes()


def dense(seed: int) -> dict[str, Tensor]:
    """Return a Llama of two layers."""
    state = {
        "model.embed_tokens.weight": tensor(seed, TOKENS, HIDDEN),
        "model.norm.weight": tensor(seed + 1, HIDDEN),
        "lm_head.weight": tensor(seed + 2, TOKENS, HIDDEN),
    }
    for number in range(LAYERS):
        layer, start = f"model.layers.{number}", seed + 10 * (number + 1)
        state[f"{layer}.self_attn.q_proj.weight"] = tensor(start, HIDDEN, HIDDEN)
        for place, (name, shape) in enumerate(
            {"gate": (INNER, HIDDEN), "up": (INNER, HIDDEN), "down": (HIDDEN, INNER)}.items()
        ):
            state[f"{layer}.mlp.{name}_proj.weight"] = tensor(start + place + 1, *shape)
    return state


SETTINGS = {
    "architectures": ["LlamaForCausalLM"],
    "model_type": "llama",
    "num_hidden_layers": LAYERS,
    "num_attention_heads": 2,
    "mlp_bias": False,
}


def write(repo: Repo, tensors: Mapping[str, Tensor], **settings: object) -> None:
    """Write a model with its configuration."""
    repo.write(safetensors(tensors, {"format": "pt"}), "m/model.safetensors")
    repo.write(json.dumps({**SETTINGS, **settings}, indent=2).encode(), "m/config.json")
    repo.write(b'{"tokens": 5}', "m/tokenizer.json")


def history(repo: Repo) -> None:
    """Make a model in the tag ``base``, and two others that went on from it in ``math`` and ``code``."""
    for seed, tag in ((0, "base"), (100, "math"), (200, "code")):
        write(repo, dense(seed))
        repo.commit(tag)
        repo.git("tag", tag)
    repo.write(EXPERTS.encode(), "experts.yml")


def values(repo: Repo, folder: str) -> dict[str, Tensor]:
    """Return the tensors of a model in the work tree."""
    data = (repo.path / folder / "model.safetensors").read_bytes()
    size = int.from_bytes(data[:8], "little")
    header: dict[str, Any] = json.loads(data[8 : 8 + size])
    header.pop("__metadata__")
    found = {}
    for name, entry in header.items():
        start, end = (8 + size + offset for offset in entry["data_offsets"])
        found[name] = (entry["dtype"], tuple(entry["shape"]), data[start:end])
    return found


def numbers(tensor: Tensor) -> np.ndarray:
    """Return the values of a tensor."""
    return np.frombuffer(tensor[2], "<f4").reshape(tensor[1]).astype("f8")


def routers(state: Mapping[str, Tensor]) -> list[np.ndarray]:
    """Return the weights of the routers of a mixture."""
    return [numbers(state[f"model.layers.{n}.block_sparse_moe.gate.weight"]) for n in range(LAYERS)]


def expected(outside: Mapping[str, Tensor], experts: list[dict[str, Tensor]]) -> dict[str, Tensor]:
    """Return the tensors of a mixture besides its routers."""
    state = {name: value for name, value in outside.items() if ".mlp." not in name}
    for number in range(LAYERS):
        for each, expert in enumerate(experts):
            for name, short in (("gate", "w1"), ("down", "w2"), ("up", "w3")):
                target = f"model.layers.{number}.block_sparse_moe.experts.{each}.{short}.weight"
                state[target] = expert[f"model.layers.{number}.mlp.{name}_proj.weight"]
    return state


def test_branches_become_experts_of_a_mixtral(with_history: WithHistory) -> None:
    """Everything else is that of the base model, and no expert is stored again."""
    repo = with_history(history)

    said = repo.git("theta", "moe", "experts.yml", "mixture")

    found = values(repo, "mixture")
    wanted = expected(dense(0), [dense(100), dense(200)])
    assert found.keys() - wanted.keys() == {f"model.layers.{n}.block_sparse_moe.gate.weight" for n in range(LAYERS)}
    assert {name: found[name] for name in wanted} == wanted
    math, code = (repo.git("rev-parse", tag) for tag in ("math", "code"))
    size = sum(len(data) for _, _, data in found.values())
    assert said.splitlines() == [
        f"wrote mixture: 2 experts, 2 for a token, 2 layers, {len(found)} parameters, {size / 1000:.2f} kB",
        f"  expert 0 from {math[:9]}:m",
        f"  expert 1 from {code[:9]}:m",
    ]
    config = json.loads(repo.read("mixture/config.json"))
    assert config == {
        "architectures": ["MixtralForCausalLM"],
        "model_type": "mixtral",
        "num_hidden_layers": LAYERS,
        "num_attention_heads": 2,
        "num_key_value_heads": 2,
        "hidden_size": HIDDEN,
        "intermediate_size": INNER,
        "max_position_embeddings": 2048,
        "rms_norm_eps": 1e-6,
        "rope_theta": 10000.0,
        "num_local_experts": 2,
        "num_experts_per_tok": 2,
    }
    assert repo.read("mixture/tokenizer.json") == b'{"tokens": 5}'
    repo.git("commit", "--quiet", "--message", "mixture")
    assert not repo.git("status", "--porcelain", "--", "mixture")
    repo.git("theta", "fsck")


def test_the_record_makes_the_same_mixture_again(with_history: WithHistory) -> None:
    """It has commit ids and the seed; another seed makes other routers."""
    repo = with_history(history)
    repo.git("theta", "moe", "experts.yml", "mixture")
    repo.git("commit", "--quiet", "--message", "mixture")
    repo.git("tag", "--force", "math", "base")

    assert "nothing to do" in repo.git("theta", "moe", "mixture/moe.yml", "mixture")
    repo.git("theta", "moe", "mixture/moe.yml", "again")
    repo.write(EXPERTS.replace("7", "8").encode(), "experts.yml")
    repo.git("theta", "moe", "experts.yml", "other")

    assert repo.git("rev-parse", "HEAD:mixture") == repo.git("write-tree", "--prefix=again/")
    first, second = routers(values(repo, "again"))
    assert not np.array_equal(first, second)
    assert not np.array_equal(first, routers(values(repo, "other"))[0])


def test_what_experts_share_is_merged_by_a_method(with_history: WithHistory) -> None:
    """As Branch-Train-MiX averages it: experts keep their own matrices."""
    repo = with_history(history)
    repo.write(f"{EXPERTS}merge_method: average\nweights: [3, 1]\n".encode(), "experts.yml")

    repo.git("theta", "moe", "experts.yml", "mixture")

    found, ours, theirs = values(repo, "mixture"), dense(100), dense(200)
    wanted = expected(dense(0), [ours, theirs])
    for name, value in wanted.items():
        if name in ours:
            mean = 0.75 * numbers(ours[name]) + 0.25 * numbers(theirs[name])
            np.testing.assert_allclose(numbers(found[name]), mean, rtol=1e-6, atol=1e-7)
        else:
            assert found[name] == value


def test_a_method_with_an_ancestor_takes_the_base_model(with_history: WithHistory) -> None:
    """The changes of all experts are added to it."""
    repo = with_history(history)
    text = f"{EXPERTS}merge_method: task_arithmetic\nparameters: {{lambda: 0.5}}\n"
    repo.write(text.encode(), "experts.yml")

    repo.git("theta", "moe", "experts.yml", "mixture")

    name = "model.norm.weight"
    base, ours, theirs = (numbers(dense(seed)[name]) for seed in (0, 100, 200))
    wanted = base + 0.5 * (ours + theirs - 2 * base)
    np.testing.assert_allclose(numbers(values(repo, "mixture")[name]), wanted, rtol=1e-6, atol=1e-7)


def test_prompts_give_routers_the_directions_of_their_tokens(with_history: WithHistory) -> None:
    """Every layer has the same, and the record has the tokens."""
    repo = with_history(history)
    repo.write(PROMPTS.encode(), "experts.yml")

    repo.git("theta", "moe", "experts.yml", "mixture")

    rows = numbers(dense(0)["model.embed_tokens.weight"])
    one, two, less = rows[1] + rows[2] + rows[4], rows[3], 2 * rows[0] + rows[1]
    second = two / np.linalg.norm(two) - less / np.linalg.norm(less)
    for router in routers(values(repo, "mixture")):
        np.testing.assert_allclose(router, [one / np.linalg.norm(one), second / np.linalg.norm(second)], rtol=1e-6)
    assert "positive_prompts:\n  - [1, 2]\n  - [4]\n" in repo.read("mixture/moe.yml").decode()
    assert "nothing to do" in repo.git("theta", "moe", "mixture/moe.yml", "mixture")


def test_a_prompt_that_is_a_text_is_read_by_the_tokenizer_of_the_base_model(with_history: WithHistory) -> None:
    """The record needs no tokenizer."""
    tokenizers = pytest.importorskip("tokenizers")
    repo = with_history(history)
    words = tokenizers.models.WordLevel({"<s>": 0, "one": 1, "two": 2, "three": 3}, unk_token="<s>")
    tokenizer = tokenizers.Tokenizer(words)
    tokenizer.pre_tokenizer = tokenizers.pre_tokenizers.Whitespace()
    repo.write(tokenizer.to_str().encode(), "m/tokenizer.json")
    repo.commit("tokenizer")
    text = (
        PROMPTS.replace("base:m", "HEAD:m").replace("[1, 2], [4]", "one two, three").replace("[[0, 0, 1]]", "['one']")
    )
    repo.write(text.encode(), "experts.yml")

    repo.git("theta", "moe", "experts.yml", "mixture")

    record = repo.read("mixture/moe.yml").decode()
    assert "positive_prompts:\n  - [1, 2]\n  - [3]\n" in record
    assert "negative_prompts:\n  - [1]" in record


def test_a_dry_run_of_a_mixture_writes_nothing(with_history: WithHistory) -> None:
    """It says which experts there would be."""
    repo = with_history(history)
    before = repo.git("status", "--porcelain")
    objects = sorted((repo.path / ".git/theta/packs").rglob("*"))

    found = json.loads(repo.git("theta", "moe", "--json", "--dry-run", "experts.yml", "mixture"))

    assert (found["layers"], found["parameters"], found["written"], found["dry_run"]) == (2, 19, False, True)
    assert found["experts"] == [f"{repo.git('rev-parse', tag)}:m" for tag in ("math", "code")]
    assert repo.git("status", "--porcelain") == before
    assert sorted((repo.path / ".git/theta/packs").rglob("*")) == objects


def bias(state: dict[str, Tensor]) -> dict[str, Any]:
    """Give attention a bias, which Mixtral has not."""
    state["model.layers.0.self_attn.q_proj.bias"] = tensor(1, HIDDEN)
    return {}


def wider(state: dict[str, Tensor]) -> dict[str, Any]:
    """Give a layer a larger MLP than others."""
    state["model.layers.1.mlp.up_proj.weight"] = tensor(1, INNER + 1, HIDDEN)
    return {}


def shallower(state: dict[str, Tensor]) -> dict[str, Any]:
    """Take a layer away."""
    for name in [name for name in state if ".layers.1." in name]:
        del state[name]
    return {"num_hidden_layers": 1}


def incomplete(state: dict[str, Tensor]) -> dict[str, Any]:
    """Take a matrix away."""
    del state["model.layers.1.mlp.down_proj.weight"]
    return {}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (bias, "model.layers.0.self_attn.q_proj.bias has no place in mixtral"),
        (wider, "model.layers.1.mlp.up_proj.weight has not the same type and shape"),
        (shallower, "HEAD:m has 1 layers, and base:m 2"),
        (lambda _: {"model_type": "gpt2"}, "model_type is 'llama' and 'gpt2'"),
        (incomplete, "has no parameter model.layers.1.mlp.down_proj.weight"),
    ],
)
def test_models_that_no_mixture_can_have_are_errors(with_history: WithHistory, change: Any, message: str) -> None:
    """Nothing is written."""
    repo = with_history(history)
    state = dense(300)
    settings = change(state)
    write(repo, state, **settings)
    repo.commit("other")
    repo.write(EXPERTS.replace("code:m", "HEAD:m").encode(), "experts.yml")

    failed = repo.run("theta", "moe", "experts.yml", "mixture", check=False)

    assert failed.returncode
    assert message in failed.stderr
    assert not (repo.path / "mixture").exists()


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("[4]", "[5]", "a prompt has the token 5"),
        ("[4]", "word", "m/tokenizer.json is not a tokenizer"),
    ],
)
def test_prompts_without_rows_are_errors(with_history: WithHistory, old: str, new: str, message: str) -> None:
    """So are those that no tokenizer reads."""
    repo = with_history(history)
    repo.write(PROMPTS.replace(old, new).encode(), "experts.yml")

    failed = repo.run("theta", "moe", "experts.yml", "mixture", check=False)

    assert failed.returncode
    assert message in failed.stderr
