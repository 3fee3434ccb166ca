"""A part of the parameters is pushed first. The remote is incomplete until the rest follows, and clones say so."""

from __future__ import annotations

import json
import os
from typing import TYPE_CHECKING, Any

import pytest
from helpers import MODEL, Repo, model

from git_theta_ext.errors import MissingError

if TYPE_CHECKING:
    from pathlib import Path

SKIPPING = {**os.environ, "GIT_THETA_SKIP_SMUDGE": "1"}


@pytest.fixture(params=["directory", "lfs"])
def address(two: Repo, tmp_path: Path, request: pytest.FixtureRequest) -> str:
    """Return the address of ``origin`` of ``two``, which has no commits."""
    two.git("theta", "install", "--global")
    if request.param == "lfs":
        where: str = request.getfixturevalue("url")
    else:
        where = str(tmp_path / "shared.git")
        two.git("init", "--quiet", "--bare", where)
    two.git("remote", "add", "origin", where)
    return where


def pushed(repo: Repo, *words: str) -> Any:
    (remote,) = json.loads(repo.git("theta", "push", "--json", *words))["remotes"]
    return remote


def test_clones_get_what_was_pushed_first_and_later_everything(two: Repo, address: str, tmp_path: Path) -> None:
    planned = pushed(two, "--dry-run", "--param", "embeddings.*")
    first = pushed(two, "--param", "embeddings.*")
    assert first["lacking"] == planned["lacking"] > 0
    assert first["left"] == planned["left"] == 29 - first["lacking"]
    assert pushed(two, "--param", "embeddings.*")["lacking"] == 0
    two.git("push", "--quiet", "--no-verify", "origin", "main", "one")
    Repo(tmp_path).git("clone", "--quiet", address, "early", env=SKIPPING)
    early = Repo(tmp_path / "early")
    early.git("theta", "fetch", "--param", "embeddings.*", "--all")
    refused = early.run("theta", "checkout", check=False)
    assert refused.returncode == MissingError.exit_code
    assert f"error: {MODEL}: encoder.layer.0.attention.weight: 14 of 14 tensors" in refused.stderr
    assert "git theta push --all in a clone that has them" in refused.stderr
    assert early.read().startswith(b"git-theta manifest")

    said = two.run("theta", "push", "--since", "one")
    assert "still lacks" in said.stderr
    assert "were not selected; to upload them: git theta push origin" in said.stderr
    early.git("theta", "checkout")
    assert early.problems(MODEL, model(2)) == []
    assert early.run("checkout", "--quiet", "one", check=False).returncode != 0

    # Git has nothing to send. Only what the remote's index has decides.
    assert "git-theta: uploaded" in two.run("push", "origin", "main").stderr
    assert pushed(two, "--all", "--since", "one")["left"] == 0
    early.git("checkout", "--quiet", "--force", "one")
    assert early.problems(MODEL, model(1)) == []
    Repo(tmp_path).git("clone", "--quiet", address, "late")
    late = Repo(tmp_path / "late")
    assert late.problems(MODEL, model(2)) == []
    late.git("checkout", "--quiet", "one")
    assert late.problems(MODEL, model(1)) == []
