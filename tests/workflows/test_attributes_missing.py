"""Manifests in git and no attribute that says what they are, and files as they are beside manifests."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from helpers import MODEL, Repo, model

if TYPE_CHECKING:
    from pathlib import Path


def test_attributes_that_are_not_committed_are_reported_here_and_in_a_clone(
    shared: Repo, repo: Repo, tmp_path: Path
) -> None:
    attributes = repo.read(".gitattributes")
    repo.write(b"", ".gitattributes")
    repo.commit("no attributes")
    repo.write(attributes, ".gitattributes")
    repo.write_model(seed=1)
    repo.commit("one", MODEL)
    stderr = repo.run("theta", "status").stderr
    assert f"{MODEL} is a manifest, but .gitattributes is not staged" in stderr
    assert "hint: git add .gitattributes && git commit" in stderr
    repo.git("push", "--quiet", "--no-verify", "origin", "main")
    repo.git("theta", "push", "origin")
    repo.git("clone", "--quiet", str(shared.path), str(tmp_path / "clone"))
    clone = Repo(tmp_path / "clone")
    assert clone.read().startswith(b"git-theta manifest")
    for command in ("status", "checkout"):
        stderr = clone.run("theta", command).stderr
        assert f"{MODEL} is a manifest, but no .gitattributes tracks it" in stderr
    assert f"attribute: HEAD:{MODEL}: the committed .gitattributes" in clone.run("theta", "fsck", check=False).stdout
    hint = stderr.split("hint: ")[1].strip()
    assert hint == f"git theta track {MODEL} && git add .gitattributes && git theta checkout"
    clone.git("-c", f"alias.mend=!{hint}", "mend")
    assert clone.problems(".gitattributes", clone.read(".gitattributes")) == ["git status says M  .gitattributes"]
    assert clone.read() == model(1)
    assert clone.run("theta", "status").stderr == ""


def test_files_as_they_are_beside_manifests_make_no_long_patches(repo: Repo) -> None:
    data = repo.write_model(seed=1)
    attributes = repo.read(".gitattributes")
    repo.write(b"", ".gitattributes")
    repo.commit("as it is")
    repo.write(attributes, ".gitattributes")
    repo.git("add", "--renormalize", ":/")
    repo.commit("manifest")
    for command in (["show"], ["log", "-p", "-2"], ["diff", "HEAD~1"]):
        assert len(repo.git(*command)) < len(data) // 20
    repo.write_model(seed=2)
    repo.commit("two")
    assert "+git-theta" not in repo.git("show")
    assert "\n+" in repo.git("show")


def test_untracking_says_how_the_files_themselves_are_committed(two: Repo) -> None:
    stderr = two.run("theta", "untrack", "*.safetensors").stderr
    assert "git still has the manifests of 1 checkpoint" in stderr
    assert two.git("status", "--porcelain") == f" M .gitattributes\n M {MODEL}"
    hint = stderr.split("hint: ")[1].strip()
    two.git("-c", f"alias.mend=!{hint}", "mend")
    two.git("commit", "--quiet", "--message", "as it is")
    assert two.problems(MODEL, model(2)) == []
    assert int(two.git("cat-file", "-s", f"HEAD:{MODEL}")) == len(model(2))
    two.git("checkout", "--quiet", "one")
    assert two.problems(MODEL, model(1)) == []
    two.git("checkout", "--quiet", "main")
    assert two.problems(MODEL, model(2)) == []
    with pytest.raises(AssertionError, match="is not tracked"):
        two.git("theta", "untrack", "*.safetensors")
