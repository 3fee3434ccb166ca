"""Commands that take the directory of a model of several files."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest
from helpers import ATTENTION, EMBEDDING, MODEL, Repo, model, safetensors, tensors

import git_theta_ext

if TYPE_CHECKING:
    from pathlib import Path

CONTENT = tensors(1)
NAMES = sorted(CONTENT)


@pytest.fixture
def sharded(repo: Repo) -> Repo:
    """Return a repository with a model in two shards, its index and its configuration in ``run``."""
    for number, names in ((1, NAMES[:6]), (2, NAMES[6:])):
        part = {name: CONTENT[name] for name in names}
        repo.write(safetensors(part), f"run/model-0000{number}-of-00002.safetensors")
    weight_map = {name: f"model-0000{1 if name in NAMES[:6] else 2}-of-00002.safetensors" for name in NAMES}
    repo.write(json.dumps({"weight_map": weight_map}).encode(), "run/model.safetensors.index.json")
    repo.write(b"{}", "run/config.json")
    repo.write_model(f"other/{MODEL}", seed=2)
    repo.write_model("other/best.safetensors", seed=2, changed={EMBEDDING: 3})
    repo.commit("model")
    return repo


def test_directories_name_models(sharded: Repo) -> None:
    for name in ("HEAD:run/", ":run", "HEAD:run/model.safetensors"):
        shown = json.loads(sharded.git("theta", "show", "--json", name))
        assert (shown["parameter_count"], len(shown["files"])) == (len(NAMES), 2), name
    assert "run/model-00002-of-00002.safetensors  (8 parameters)" in sharded.git("theta", "show", "HEAD:run")
    assert sharded.git("theta", "show", "HEAD:run", ATTENTION[0]).startswith(ATTENTION[0])
    assert sorted(git_theta_ext.load("HEAD:run/", repository=sharded.path)) == NAMES
    done = sharded.run("theta", "show", "HEAD:other/", check=False)
    assert "several models: best.safetensors, model.safetensors" in done.stderr
    assert "git theta show HEAD:other/best.safetensors" in done.stderr
    assert "no checkpoint" in sharded.run("theta", "show", "HEAD:", check=False).stderr


def test_directory_is_exported_whole_and_nothing_is_overwritten(sharded: Repo, tmp_path: Path) -> None:
    target = tmp_path / "exported"
    sharded.git("theta", "export", "HEAD:run/", str(target))
    assert {path.name: path.read_bytes() for path in target.iterdir()} == {
        path.name: path.read_bytes() for path in (sharded.path / "run").iterdir()
    }
    assert "already exists" in sharded.run("theta", "export", "HEAD:run", str(target), check=False).stderr
    sharded.git("theta", "export", "--force", ":other", str(target))
    assert (target / MODEL).read_bytes() == model(2)
