"""Models of the layers of other versions."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import numpy as np
import pytest
from helpers import Repo, WithHistory, safetensors

if TYPE_CHECKING:
    from collections.abc import Mapping

    from helpers import Tensor

LAYERS = 3
WEIGHT = "model.layers.{}.mlp.up_proj.weight"
PASSTHROUGH = """slices:
  - sources: [{model: "base:one", layer_range: [0, 2]}]
  - sources: [{model: "main:two", layer_range: [1, 3]}]
merge_method: passthrough
dtype: float32
"""


def tensor(seed: int, *shape: int) -> Tensor:
    """Return a tensor that is drawn from a seed."""
    return "F32", shape, np.random.default_rng(seed).normal(0, 1, shape).astype("<f4").tobytes()


def model(seed: int) -> dict[str, Tensor]:
    """Return a language model of three layers."""
    layers = {WEIGHT.format(n): tensor(seed + n, 4, 4) for n in range(LAYERS)}
    layers |= {f"model.layers.{n}.norm.weight": tensor(seed + 10 + n, 4) for n in range(LAYERS)}
    outside = {"model.embed_tokens.weight": tensor(seed + 20, 8, 4), "model.norm.weight": tensor(seed + 21, 4)}
    return {**layers, **outside, "lm_head.weight": tensor(seed + 22, 8, 4)}


def config(**more: object) -> bytes:
    """Return a configuration of the model."""
    types = ["full", "sliding", "full"]
    return json.dumps({"num_hidden_layers": LAYERS, "layer_types": types, "hidden_size": 4, **more}, indent=2).encode()


def write(repo: Repo, folder: str, tensors: Mapping[str, Tensor], shards: int = 1) -> None:
    """Write a model with what is beside it."""
    names = sorted(tensors)
    if shards == 1:
        repo.write(safetensors(tensors, {"format": "pt"}), f"{folder}/model.safetensors")
    else:
        weight_map = {}
        for number in range(shards):
            file = f"model-{number + 1:05}-of-{shards:05}.safetensors"
            part = {name: tensors[name] for name in names[number::shards]}
            repo.write(safetensors(part, {"format": "pt"}), f"{folder}/{file}")
            weight_map |= dict.fromkeys(part, file)
        index = {"metadata": {"total_size": sum(len(t[2]) for t in tensors.values())}, "weight_map": weight_map}
        repo.write(json.dumps(index).encode(), f"{folder}/model.safetensors.index.json")
    repo.write(config(), f"{folder}/config.json")
    repo.write(b'{"tokens": 8}', f"{folder}/tokenizer.json")
    repo.write(b"# A model", f"{folder}/README.md")
    repo.write(b"print()", f"{folder}/train.py")


def history(repo: Repo) -> None:
    """Make two models, the first of which is in shards and has other values in the tag ``base``."""
    write(repo, "one", model(0), shards=2)
    write(repo, "two", model(100))
    repo.commit("base")
    repo.git("tag", "base")
    write(repo, "one", model(200), shards=2)
    repo.commit("trained")
    repo.write(PASSTHROUGH.encode(), "slices.yml")


def stacked(*parts: tuple[int, int]) -> dict[str, Tensor]:
    """Return the tensors of a model of layers, given as seed and number; the seeds of the others are the outer ones."""
    first, last = model(parts[0][0]), model(parts[-1][0])
    result = {"model.embed_tokens.weight": first["model.embed_tokens.weight"]}
    for number, (seed, layer) in enumerate(parts):
        for name in (WEIGHT, "model.layers.{}.norm.weight"):
            result[name.format(number)] = model(seed)[name.format(layer)]
    return result | {name: last[name] for name in ("model.norm.weight", "lm_head.weight")}


EXPECTED = stacked((0, 0), (0, 1), (100, 1), (100, 2))


def values(repo: Repo, folder: str) -> dict[str, Tensor]:
    """Return the tensors of all files of a model in the work tree."""
    result: dict[str, Tensor] = {}
    for path in sorted((repo.path / folder).glob("*.safetensors")):
        data = path.read_bytes()
        size = int.from_bytes(data[:8], "little")
        header = json.loads(data[8 : 8 + size])
        assert header.pop("__metadata__") == {"format": "pt"}
        for name, entry in header.items():
            start, end = (8 + size + offset for offset in entry["data_offsets"])
            assert name not in result
            result[name] = (entry["dtype"], tuple(entry["shape"]), data[start:end])
    return result


def test_layers_of_versions_are_stacked_in_shards_with_index_and_configuration(with_history: WithHistory) -> None:
    """Values are those of the sources, and everything is staged and committed without a filter reading it again."""
    repo = with_history(history)

    said = repo.git("theta", "stack", "slices.yml", "deep")

    base, main = (repo.git("rev-parse", rev)[:9] for rev in ("base", "main"))
    assert said.splitlines() == [
        "wrote deep: 4 layers, 11 parameters, 592 B",
        f"  layers 0-1 from 0-1 of {base}:one",
        f"  layers 2-3 from 1-2 of {main}:two",
    ]
    assert values(repo, "deep") == EXPECTED
    index = json.loads(repo.read("deep/model.safetensors.index.json"))
    files = sorted(path.name for path in (repo.path / "deep").glob("*.safetensors"))
    assert index["weight_map"].keys() == EXPECTED.keys()
    assert sorted(set(index["weight_map"].values())) == files
    assert len(files) > 1
    assert index["metadata"] == {"total_size": sum(len(data) for _, _, data in EXPECTED.values())}
    written = json.loads(repo.read("deep/config.json"))
    assert written["num_hidden_layers"] == 4
    assert written["layer_types"] == ["full", "sliding", "sliding", "full"]
    assert written["hidden_size"] == 4
    assert repo.read("deep/tokenizer.json") == b'{"tokens": 8}'
    assert {path.name for path in (repo.path / "deep").iterdir()} == {
        *files,
        "config.json",
        "model.safetensors.index.json",
        "stack.yml",
        "tokenizer.json",
    }
    assert repo.cleans("status") == 0
    repo.git("commit", "--quiet", "--message", "deeper")
    assert not repo.git("status", "--porcelain", "--", "deep")
    repo.git("theta", "fsck")


def test_the_record_makes_the_same_model_again(with_history: WithHistory) -> None:
    """The record has commit ids, so branches that move do not change what it makes."""
    repo = with_history(history)
    repo.git("theta", "stack", "slices.yml", "deep")
    repo.git("commit", "--quiet", "--message", "deeper")
    write(repo, "two", model(300))
    repo.commit("two goes on")

    assert "nothing to do" in repo.git("theta", "stack", "deep/stack.yml", "deep")
    repo.git("theta", "stack", "deep/stack.yml", "again")

    assert repo.git("rev-parse", "HEAD:deep") == repo.git("write-tree", "--prefix=again/")
    changed = repo.run("theta", "stack", "slices.yml", "deep", check=False)
    assert changed.returncode == 2
    assert "deep has other files" in changed.stderr


def test_sources_of_a_slice_are_merged_by_a_method(with_history: WithHistory) -> None:
    """A change of a source against base_model is scaled, also in layers that get another number."""
    repo = with_history(history)
    source = '{{model: "{}", layer_range: [{}, {}]}}'
    rows = [(0, 1), (2, 3), (1, 3)]
    slices = "".join(
        f"  - sources: [{', '.join(source.format(name, *row) for name in ('base:one', 'main:one', 'main:two'))}]\n"
        for row in rows
    )
    repo.write(
        f"slices:\n{slices}merge_method: task_arithmetic\nbase_model: base:one\nparameters: {{lambda: 0.5}}\n".encode(),
        "slices.yml",
    )

    repo.git("theta", "stack", "slices.yml", "merged")

    found = values(repo, "merged")
    layers = [0, 2, 1, 2]
    base, ours, theirs = (stacked(*((seed, n) for n in layers)) for seed in (0, 200, 100))
    assert found.keys() == base.keys()
    for name, (_, _, data) in found.items():
        before, *sides = (np.frombuffer(state[name][2], "<f4").astype("f8") for state in (base, ours, theirs))
        expected = before + 0.5 * sum(side - before for side in sides)
        np.testing.assert_allclose(np.frombuffer(data, "<f4"), expected, rtol=1e-6, atol=1e-7)
    assert json.loads(repo.read("merged/config.json"))["num_hidden_layers"] == 4
    assert repo.cleans("status") == 0


def test_sources_without_a_base_model_are_averaged(with_history: WithHistory) -> None:
    """Slices of all layers are what a merge without a common ancestor is."""
    repo = with_history(history)
    repo.write(
        b"slices:\n  - sources: [{model: main:one, layer_range: [0, 3]}, {model: main:two, layer_range: [0, 3]}]\n"
        b"merge_method: average\nweights: [3, 1]\n",
        "slices.yml",
    )

    repo.git("theta", "stack", "slices.yml", "merged")

    ours, theirs = model(200), model(100)
    for name, (_, _, data) in values(repo, "merged").items():
        one, two = (np.frombuffer(state[name][2], "<f4").astype("f8") for state in (ours, theirs))
        np.testing.assert_allclose(np.frombuffer(data, "<f4"), 0.75 * one + 0.25 * two, rtol=1e-6, atol=1e-7)


def test_a_dry_run_writes_nothing(with_history: WithHistory) -> None:
    """It says which layers there would be."""
    repo = with_history(history)
    before = repo.git("status", "--porcelain")
    objects = sorted((repo.path / ".git/theta/packs").rglob("*"))

    found = json.loads(repo.git("theta", "stack", "--json", "--dry-run", "slices.yml", "deep"))

    assert (found["layers"], found["parameters"], found["written"], found["dry_run"]) == (4, 11, False, True)
    assert found["slices"][1]["layers"] == [2, 4]
    assert found["slices"][1]["sources"] == [{"model": f"{repo.git('rev-parse', 'main')}:two", "layer_range": [1, 3]}]
    assert repo.git("status", "--porcelain") == before
    assert sorted((repo.path / ".git/theta/packs").rglob("*")) == objects


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("[1, 3]", "[1, 4]", "main:two has 3 layers, and layer_range is [1, 4]"),
        ("main:two", "nowhere:two", "nowhere is not a commit"),
        ("main:two", "../other-model", "is not REV:PATH"),
        ("float32", "bfloat16", "is F32, and dtype is BF16"),
    ],
)
def test_slices_that_no_model_can_have_are_errors(with_history: WithHistory, old: str, new: str, message: str) -> None:
    """Nothing is written."""
    repo = with_history(history)
    repo.write(PASSTHROUGH.replace(old, new).encode(), "slices.yml")

    failed = repo.run("theta", "stack", "slices.yml", "deep", check=False)

    assert failed.returncode
    assert message in failed.stderr
    assert not (repo.path / "deep").exists()


def test_a_file_that_cannot_be_read_is_an_error(repo: Repo) -> None:
    """So is one for a search."""
    for words in (("stack", "absent.yml", "deep"), ("merge", "--search", "absent.yml", "--dry-run", "HEAD")):
        failed = repo.run("theta", *words, check=False)
        assert failed.returncode == 2
        assert "cannot read absent.yml: No such file or directory" in failed.stderr


def test_models_that_are_not_alike_are_not_stacked(with_history: WithHistory) -> None:
    """A configuration describes all layers, so they need the same sizes."""
    repo = with_history(history)
    repo.write(config(hidden_size=8), "two/config.json")
    repo.commit("wider")

    failed = repo.run("theta", "stack", "slices.yml", "deep", check=False)

    assert failed.returncode
    assert "hidden_size is 4 and 8" in failed.stderr


def test_a_directory_whose_checkpoints_are_not_tracked_is_refused(with_history: WithHistory) -> None:
    """Git would take the manifest for the model."""
    repo = with_history(history)
    repo.write(b"deep/** -filter\n", ".git/info/attributes")

    failed = repo.run("theta", "stack", "slices.yml", "deep", check=False)

    assert failed.returncode
    assert "git theta track" in failed.stderr
    assert not (repo.path / "deep").exists()


def test_transformers_load_a_stacked_llama(repo: Repo) -> None:
    """The configuration and the index that Transformers wrote fit the deeper model."""
    torch = pytest.importorskip("torch")
    transformers = pytest.importorskip("transformers")
    settings = transformers.LlamaConfig(
        vocab_size=16, hidden_size=8, intermediate_size=8, num_hidden_layers=2, num_attention_heads=2
    )
    torch.manual_seed(0)
    small = transformers.LlamaForCausalLM(settings)
    small.save_pretrained(repo.path / "small", max_shard_size="2KB")
    repo.commit("small")
    sources = "".join("  - sources: [{model: HEAD:small, layer_range: [0, 2]}]\n" for _ in range(2))
    repo.write(f"slices:\n{sources}".encode(), "slices.yml")

    repo.git("theta", "stack", "slices.yml", "deep")

    deep, info = transformers.LlamaForCausalLM.from_pretrained(repo.path / "deep", output_loading_info=True)
    assert not any(info.values())
    assert deep.config.num_hidden_layers == 4
    for number, layer in enumerate(deep.model.layers):
        source = small.model.layers[number % 2].state_dict()
        assert all(torch.equal(value, source[name]) for name, value in layer.state_dict().items())
    assert torch.equal(deep.lm_head.weight, small.lm_head.weight)
