"""``git theta fetch`` and ``pull``: parameters of other versions, and some parameters only."""

from __future__ import annotations

import json
import os
from typing import TYPE_CHECKING, Any

import pytest
from helpers import MODEL, Repo, model

if TYPE_CHECKING:
    from pathlib import Path

SKIPPING = {**os.environ, "GIT_THETA_SKIP_SMUDGE": "1"}


@pytest.fixture
def copy(two: Repo, shared: Repo, tmp_path: Path) -> Repo:
    """Return a clone with the history of ``two``, and nothing in its store."""
    two.git("push", "--quiet", "origin", "main", "one", "two")
    Repo(tmp_path).git("clone", "--quiet", str(shared.path), "clone", env=SKIPPING)
    return Repo(tmp_path / "clone")


def fetched(repo: Repo, *words: str) -> Any:
    return json.loads(repo.git("theta", "fetch", "--json", *words))


def stored(repo: Repo) -> int:
    return sum(path.stat().st_size for path in (repo.path / ".git" / "theta" / "packs").rglob("*") if path.is_file())


def test_one_parameter_is_fetched_and_can_be_read(copy: Repo) -> None:
    planned = fetched(copy, "--dry-run", "--param", "embeddings.word.*")
    assert (planned["missing"], stored(copy)) == (1, 0)
    done = fetched(copy, "--param", "embeddings.word.*")
    assert done == {**planned, "dry_run": False}
    assert stored(copy) == done["bytes"]
    assert fetched(copy)["tensors"] > done["tensors"] == 1
    copy.git("theta", "checkout")
    assert copy.problems(MODEL, model(2)) == []


def test_pull_writes_the_checkpoints_that_have_all_parameters(copy: Repo) -> None:
    some = copy.run("theta", "pull", "--param", "embeddings.word.*")
    assert "git theta checkout model.safetensors" in some.stderr
    assert copy.read().startswith(b"git-theta manifest")
    planned = json.loads(copy.git("theta", "pull", "--dry-run", "--json"))
    assert (planned["written"], planned["left"]) == ([], [MODEL])
    done = json.loads(copy.git("theta", "pull", "--json", "origin"))
    assert done == {**planned, "dry_run": False, "written": [MODEL], "left": []}
    assert copy.problems(MODEL, model(2)) == []


def test_versions_fetched_in_advance_are_checked_out_without_the_remote(
    copy: Repo, shared: Repo, tmp_path: Path
) -> None:
    assert fetched(copy, "one")["manifests"] == 1
    assert fetched(copy, "--since", "one")["manifests"] == 1
    shared.path.rename(tmp_path / "gone.git")
    copy.git("checkout", "--quiet", "--force", "one")
    assert copy.problems(MODEL, model(1)) == []
    copy.git("checkout", "--quiet", "main")
    assert copy.problems(MODEL, model(2)) == []


def test_all_versions_of_a_named_remote_are_fetched_once(copy: Repo) -> None:
    assert fetched(copy, "--all", "origin")["missing"] > 0
    assert fetched(copy, "--all", "origin") | {"manifests": 2, "missing": 0, "packs": 0, "bytes": 0} == fetched(
        copy, "--all"
    )
    assert copy.git("theta", "fetch", "origin", "one") == "nothing is missing"


def test_what_no_remote_has_is_reported(copy: Repo, shared: Repo) -> None:
    for pack in (shared.path / "theta" / "packs").rglob("*"):
        if pack.is_file():
            pack.unlink()
    for words in ([], ["--dry-run"]):
        done = copy.run("theta", "fetch", *words, check=False)
        assert done.returncode == 7
        assert "git theta push --all" in done.stderr
    assert "no parameter is named nothing" in copy.run("theta", "fetch", "--param", "nothing", check=False).stderr


def test_excluded_checkpoints_stay_manifests_until_they_are_asked_for(two: Repo, shared: Repo, tmp_path: Path) -> None:
    two.write_model("teacher/model.safetensors", seed=5)
    two.git("config", "-f", ".thetaconfig", "theta.fetch.exclude", "teacher/*")
    two.commit("a teacher")
    two.git("push", "--quiet", "origin", "main", "one")
    made = Repo(tmp_path).run("clone", str(shared.path), "clone")
    copy = Repo(tmp_path / "clone")
    assert "teacher/model.safetensors is not fetched" in made.stderr
    assert copy.read() == model(2)
    assert copy.read("teacher/model.safetensors").startswith(b"git-theta manifest")
    status = json.loads(copy.git("theta", "status", "--exit-code", "--json"))
    assert (status["not_fetched"], status["pending"]) == (["teacher/model.safetensors"], [])
    copy.git("theta", "checkout", "--force")
    assert copy.read("teacher/model.safetensors").startswith(b"git-theta manifest")
    copy.git("theta", "checkout", "teacher")
    assert copy.read("teacher/model.safetensors") == model(5)
    copy.git("config", "theta.fetch.include", "nothing")
    copy.git("checkout", "--quiet", "one")
    assert copy.read().startswith(b"git-theta manifest")
    copy.git("checkout", "--quiet", "main")
    assert copy.read() == model(2)
    assert copy.git("status", "--porcelain") == ""
