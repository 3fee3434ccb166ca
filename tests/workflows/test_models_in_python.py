"""Versions of models in Python programs, as a notebook or an evaluation job loads them: without a checkout."""

import json
import re
from pathlib import Path

import pytest
import torch
from git import Repo as GitRepo
from helpers import Repo
from safetensors.torch import save_file
from torch import nn

import git_theta_ext

PAGE = Path(__file__).parents[2] / "docs/from-python.md"
WIDTH = 512
"""The weight of a layer has a mebibyte, so that it is worth fetching alone."""


@pytest.fixture(scope="module")
def plain():
    """Return the two versions of a plain module that ``history`` has."""
    torch.manual_seed(0)
    versions = [nn.Sequential(*(nn.Linear(WIDTH, WIDTH) for _ in range(6))) for _ in range(2)]
    versions[1].load_state_dict(versions[0].state_dict())
    with torch.no_grad():
        versions[1][5].weight[::100] += 0.01
    return versions


@pytest.fixture(scope="module")
def language_models():
    """Return the two versions of a model of Hugging Face that ``history`` has."""
    from transformers import LlamaConfig, LlamaForCausalLM

    config = LlamaConfig(
        vocab_size=64, hidden_size=16, intermediate_size=32, num_hidden_layers=2, num_attention_heads=2,
        num_key_value_heads=1, tie_word_embeddings=True, max_position_embeddings=32,
    )  # fmt: skip
    return [LlamaForCausalLM(config).eval() for _ in range(2)]


@pytest.fixture(scope="module")
def history(module_repo, tmp_path_factory, plain, language_models):
    """Return a bare repository with a store, whose versions v1.0 and v2.0 have both models, one of them in shards."""
    folder = tmp_path_factory.mktemp("python")
    module_repo.git("init", "--quiet", "--bare", str(folder / "shared.git"))
    module_repo.git("remote", "add", "origin", str(folder / "shared.git"))
    for number, (module, language_model) in enumerate(zip(plain, language_models, strict=True), 1):
        save_file(module.state_dict(), module_repo.path / "plain.safetensors")
        save_file(nn.Linear(4, 2).state_dict(), module_repo.path / "linear.safetensors")
        language_model.save_pretrained(module_repo.path / "run", max_shard_size="5KB")
        module_repo.commit(f"version {number}")
        module_repo.git("tag", f"v{number}.0")
    module_repo.git("push", "--quiet", "origin", "main", "--tags")
    return Repo(folder / "shared.git")


@pytest.fixture
def clone(history, tmp_path):
    """Return a bare clone, which has no tensor."""
    history.git("clone", "--quiet", "--bare", ".", str(tmp_path / "clone.git"))
    return Repo(tmp_path / "clone.git")


def stored(repo):
    """Return the bytes of the packs in a bare repository."""
    return sum(path.stat().st_size for path in (repo.path / "theta/packs").glob("*/*"))


def test_a_module_of_torch_loads_a_version(history, plain):
    module = nn.Sequential(*(nn.Linear(WIDTH, WIDTH) for _ in range(6)))
    for rev, expected in zip(("v1.0", "v2.0"), plain, strict=True):
        module.load_state_dict(git_theta_ext.load("plain.safetensors", rev=rev, repository=history.path))
        assert all(map(torch.equal, module.parameters(), expected.parameters()))
    with git_theta_ext.open("plain.safetensors", rev="v1.0", repository=history.path) as opened:
        module.load_state_dict(opened)
    assert all(map(torch.equal, module.parameters(), plain[0].parameters()))


def test_a_model_of_hugging_face_loads_a_version_with_its_configuration(history, language_models):
    import transformers

    tokens = torch.arange(8)[None]
    with GitRepo(history.path) as repository:
        for rev, expected in zip(("v1.0", "v2.0"), language_models, strict=True):
            commit = repository.commit(rev)
            config = json.loads((commit.tree / "run/config.json").data_stream.read())
            kind = getattr(transformers, config["architectures"][0])
            with git_theta_ext.open("run/", rev=commit, repository=repository) as opened:
                assert len(opened) == 20
                model = kind.from_pretrained(None, config=kind.config_class(**config), state_dict=opened)
            assert torch.equal(model(tokens).logits, expected(tokens).logits)


def test_a_clone_fetches_only_what_is_asked_for(clone, plain):
    weight = plain[0][0].weight
    with git_theta_ext.open("plain.safetensors", rev="v1.0", repository=clone.path) as opened:
        assert len(opened) == 12
        assert stored(clone) == 0
        assert torch.equal(opened["3.weight"], plain[0][3].weight)
        assert 0.5 * weight.nbytes < stored(clone) < 1.2 * weight.nbytes
        found = opened.get_tensors(["0.weight", "1.weight"])
        assert torch.equal(found["0.weight"], weight)
        assert stored(clone) < 3.4 * weight.nbytes
        assert torch.equal(opened.get_slice("2.weight")[7], plain[0][2].weight[7])
        assert stored(clone) < 4.5 * weight.nbytes


def test_a_delta_is_fetched_with_its_base(clone, plain):
    size = plain[0][5].weight.nbytes
    with git_theta_ext.open("plain.safetensors", rev="v2.0", repository=clone.path) as opened:
        assert torch.equal(opened["5.weight"], plain[1][5].weight)
    assert stored(clone) < 1.3 * size
    clone.git("remote", "remove", "origin")  # the base is here
    with git_theta_ext.open("plain.safetensors", rev="v1.0", repository=clone.path) as opened:
        assert torch.equal(opened["5.weight"], plain[0][5].weight)


def test_the_examples_of_the_page_work(history, tmp_path, monkeypatch, capsys):
    history.git("clone", "--quiet", ".", str(tmp_path / "work"))
    Repo(tmp_path / "work").git("theta", "install", "--local")
    history.git("clone", "--quiet", "--bare", ".", str(tmp_path / "work/models.git"))
    monkeypatch.chdir(tmp_path / "work")
    names = {}
    for block in re.findall(r"^```python\n(.*?)^```", PAGE.read_text(), re.MULTILINE | re.DOTALL):
        exec(block, names)
    assert "20 F32 [16]" in capsys.readouterr().out
    assert names["tokens"].shape == (2, 16)
    assert len(names["attention"]) == 8
    assert [subject for _, subject in names["norms"]] == ["version 2", "version 1"]
    assert set(names["table"].index) == {"bias", "weight"}
    assert Repo(tmp_path / "work").git("status", "--porcelain", "linear.safetensors") == "M  linear.safetensors"
    assert names["merged"]["weight"].shape == (2, 4)
