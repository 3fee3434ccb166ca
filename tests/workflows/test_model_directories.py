"""Commands that take the directory of a model of several files."""

from __future__ import annotations

import json
from functools import partial
from typing import TYPE_CHECKING

import pytest
from helpers import ATTENTION, EMBEDDING, MODEL, Repo, model, safetensors, tensors

import git_theta_ext

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from helpers import Tensor

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


def reshard(repo: Repo, content: Mapping[str, Tensor]) -> None:
    """Divide the model between three files instead of two."""
    for path in (repo.path / "run").glob("model*"):
        path.unlink()
    files = {name: f"model-0000{1 + number // 5}-of-00003.safetensors" for number, name in enumerate(NAMES)}
    for file in sorted(set(files.values())):
        repo.write(safetensors({name: content[name] for name in NAMES if files[name] == file}), f"run/{file}")
    repo.write(json.dumps({"weight_map": files}).encode(), "run/model.safetensors.index.json")


def test_resharded_model_is_compared_as_one(sharded: Repo) -> None:
    theta = partial(sharded.git, "theta", "diff")
    reshard(sharded, tensors(1, {EMBEDDING: 7}))
    assert "3 untracked files are left out: git add run && git theta diff --cached" in theta()
    sharded.git("add", "run")
    lines = theta("--cached").splitlines()
    assert lines[0] == "diff --theta run/model.safetensors"
    assert lines[1].startswith("1 modified, 13 unchanged")
    assert lines[2] == "> 14 parameters moved between files (2 -> 3 files)"
    assert lines[3].startswith(f"~ {EMBEDDING}  F32 [256,64]  modified  rel. change")
    assert len(lines) == 4
    assert theta() == ""
    assert theta("HEAD").splitlines() == lines
    assert sharded.git("diff", "--cached").count("git theta diff compares all files of the model") >= 2
    sharded.git("commit", "-qm", "divide")
    for words in (["HEAD~..HEAD"], ["HEAD~", "HEAD", "run"], ["HEAD~", "--", "run/model-00002-of-00003.safetensors"]):
        assert theta(*words).splitlines() == lines, words
    assert theta("HEAD~", "other") == ""
    (data,) = json.loads(theta("--json", "HEAD~"))["models"]
    assert len(data["moved"]) == len(NAMES)
    assert [len(data["files"][side]) for side in ("old", "new")] == [2, 3]
    assert [row["change"] for row in data["parameters"]] == ["modified"]
    page = sharded.path / "diff.html"
    assert theta("HEAD~", "--html", str(page)).splitlines() == lines
    assert "<title>git theta diff HEAD~</title>" in page.read_text()
    assert "14 parameters moved between files." in page.read_text()
    page.unlink()
    assert sharded.run("theta", "diff", "-q", "HEAD~", check=False).returncode == 1
    assert sharded.run("theta", "diff", "-q", "--exit-code", check=False).returncode == 0
    sharded.git("mv", "run", "moved")
    assert theta("--cached").splitlines() == [
        "diff --theta run/model.safetensors -> moved/model.safetensors",
        f"14 unchanged; 0 B of {lines[1].split()[-3]} {lines[1].split()[-2]} differ",
    ]
    assert "unknown revision or path" in sharded.run("theta", "diff", "nothing", check=False).stderr


def test_conflicts_and_files_from_before_tracking_are_compared(sharded: Repo) -> None:
    sharded.git("checkout", "-qb", "side")
    sharded.write(model(2, {EMBEDDING: 4}), f"other/{MODEL}")
    sharded.git("commit", "-qam", "side")
    sharded.git("checkout", "-q", "-")
    sharded.write(model(2, {EMBEDDING: 5}), f"other/{MODEL}")
    sharded.git("commit", "-qam", "main")
    sharded.run("-c", "theta.merge.method=conflict", "merge", "side", check=False)
    shown = sharded.git("theta", "diff")
    assert f"* Unmerged path other/{MODEL}" in shown
    assert "1 unresolved conflict (git theta resolve):" in shown
    sharded.git("reset", "-q", "--hard")
    raw = sharded.git("hash-object", "-w", "--no-filters", f"other/{MODEL}")
    sharded.git("update-index", "--cacheinfo", f"100644,{raw},other/{MODEL}")
    assert sharded.git("theta", "diff", "--cached") == ""


def test_files_are_listed_as_models_and_by_directory(sharded: Repo) -> None:
    theta = partial(sharded.git, "theta", "ls-files")
    size = "(2 files, safetensors, 14 parameters, 198 kB)"
    assert theta("--models").splitlines()[2] == f"run/model.safetensors  {size}"
    assert theta("--models", "HEAD", "--", "run").splitlines() == [f"run/model.safetensors  {size}"]
    assert len(theta("run").splitlines()) == 2
    assert len(theta("HEAD", "run/model-00002-of-00002.safetensors").splitlines()) == 1
    models = json.loads(theta("--json"))["models"]
    assert [len(model["files"]) for model in models] == [1, 1, 2]
    assert models[2]["index"] == "run/model.safetensors.index.json"
