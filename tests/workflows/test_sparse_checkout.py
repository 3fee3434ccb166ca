"""Sparse checkouts: models outside the cone are neither deleted nor reported."""

from __future__ import annotations

import json

import pytest
from helpers import MODEL, Repo, model

OUTSIDE = f"large/{MODEL}"


@pytest.fixture(params=["--no-sparse-index", "--sparse-index"])
def sparse(repo: Repo, request: pytest.FixtureRequest) -> Repo:
    """Return a repository with a model in each of two folders, of which only ``small`` is checked out."""
    for folder in ("small", "large"):
        (repo.path / folder).mkdir()
        repo.write_model(f"{folder}/{MODEL}", seed=1)
    repo.commit("two models")
    repo.git("sparse-checkout", "set", "--cone", request.param, "small")
    assert not (repo.path / "large").exists()
    return repo


def test_what_is_outside_is_left_alone(sparse: Repo) -> None:
    result = json.loads(sparse.git("theta", "status", "--json"))
    assert not any(result[key] for key in ("staged", "not_staged", "pending"))
    assert json.loads(sparse.git("theta", "--json"))["next"] == []
    sparse.write_model(f"small/{MODEL}", seed=2)
    sparse.git("theta", "add", ".")
    assert sparse.git("diff", "--cached", "--name-status").split() == ["M", f"small/{MODEL}"]
    for options in ([], ["--force"]):
        done = sparse.run("theta", "checkout", *options)
        assert "large" not in done.stdout + done.stderr
    assert not (sparse.path / "large").exists()
    done = sparse.run("theta", "add", OUTSIDE, check=False)
    assert done.returncode == 2
    assert "outside the sparse checkout" in done.stderr
    sparse.git("theta", "fsck")
    sparse.git("theta", "export", f":{OUTSIDE}", str(sparse.path.parent / "exported"))
    assert (sparse.path.parent / "exported").read_bytes() == model(1)
    sparse.git("sparse-checkout", "add", "large")
    assert sparse.read(OUTSIDE) == model(1)


def test_an_entry_marked_by_hand_is_left_alone(two: Repo) -> None:
    two.git("update-index", "--skip-worktree", MODEL)
    two.write_model(seed=3)
    assert json.loads(two.git("theta", "status", "--json"))["not_staged"] == []
    done = two.run("theta", "add", ".", check=False)
    assert "not tracked by git theta" in done.stderr
    assert two.git("diff", "--cached", "--name-only") == ""
