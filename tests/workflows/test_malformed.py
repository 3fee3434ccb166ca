"""Files that do not follow their format: added, refused if the team says so, merged as git merges binary files."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from helpers import MODEL, model

if TYPE_CHECKING:
    from helpers import Repo, WithHistory

BROKEN = model(5)[:-10]
WARNING = "warning: m/broken.safetensors: parameter "


def _with_broken(repo: Repo) -> None:
    repo.git("init", "--quiet")
    repo.git("theta", "track", "*.safetensors")
    repo.write(BROKEN, "m/broken.safetensors")
    repo.write_model("m/whole.safetensors")
    repo.commit("both")


def test_adding_a_folder_does_not_fail_because_of_a_file_unless_told_to(with_history: WithHistory) -> None:
    repo = with_history(_with_broken)
    repo.git("rm", "--quiet", "--cached", "-r", "m")
    for add in (("add", "."), ("theta", "add", ".")):
        done = repo.run(*add)
        assert done.stderr.count(WARNING) == 1
        assert "stored as an opaque file" in done.stderr
        assert repo.git("status", "--porcelain") == ""
    assert repo.git("show", ":m/broken.safetensors").split("\n")[1] == "format opaque"
    (repo.path / "m/broken.safetensors").unlink()
    repo.git("checkout", "m/broken.safetensors")
    assert repo.problems("m/broken.safetensors", BROKEN) == []

    repo.git("rm", "--quiet", "--cached", "-r", "m")
    repo.write(BROKEN, "m/broken.safetensors")
    repo.git("config", "-f", ".thetaconfig", "theta.strict", "true")
    for add in (("add", "."), ("theta", "add", ".")):
        done = repo.run(*add, check=False)
        assert done.returncode
        assert "theta-format=opaque" in done.stderr
    repo.git("config", "theta.strict", "false")  # one's own setting counts first
    assert WARNING in repo.run("theta", "add", ".").stderr


def test_a_version_that_is_malformed_is_reported_with_the_way_back(two: Repo) -> None:
    two.write(BROKEN)
    warning = two.run("add", MODEL).stderr
    assert f"hint: if it is damaged: git restore --source=HEAD --staged --worktree {MODEL}" in warning
    assert "opaque" in two.git("diff", "--cached")
    two.git("restore", "--source=HEAD", "--staged", "--worktree", MODEL)
    assert two.git("status", "--porcelain") == ""


@pytest.mark.parametrize("theirs", [BROKEN[:-7], model(6)], ids=["also malformed", "whole again"])
def test_two_sides_of_a_malformed_file_are_a_conflict_and_one_is_taken(
    with_history: WithHistory, theirs: bytes
) -> None:
    path = "m/broken.safetensors"
    repo = with_history(_with_broken)
    repo.git("branch", "still")
    repo.switch("-b", "side")
    repo.write(theirs, path)
    repo.commit("theirs")
    repo.switch("still")
    repo.write_model("m/whole.safetensors", seed=9)
    repo.commit("another file")
    repo.git("merge", "--quiet", "--no-edit", "side")
    assert repo.problems(path, theirs) == []
    repo.switch("main")
    repo.write(BROKEN[:-3], path)
    repo.commit("ours")
    assert repo.run("merge", "side", check=False).returncode == 1
    assert repo.git("diff", "--name-only", "--diff-filter=U") == path
    refused = repo.run("theta", "resolve", "-m", "theirs", path, check=False).stderr
    if refused:
        assert "git checkout --theirs PATH takes the other file" in refused
        repo.git("checkout", "--theirs", path)
    assert repo.read(path) == theirs


def test_an_empty_file_is_an_empty_file_of_git(with_history: WithHistory) -> None:
    """In git's index, no other blob may have a file of size 0: git would refuse to merge."""
    repo = with_history(_with_broken)
    empty = repo.git("hash-object", "-t", "blob", "/dev/null")
    for add in (("add", "."), ("theta", "add", "m/empty.safetensors")):
        repo.write(b"", "m/empty.safetensors")
        repo.git(*add)
        assert repo.git("rev-parse", ":m/empty.safetensors") == empty
        assert repo.git("diff-files") == ""
        repo.git("rm", "--quiet", "--cached", "m/empty.safetensors")
    repo.git("checkout", "-qb", "side")
    repo.write_model("m/other.safetensors")
    repo.commit("side, with the empty file")
    assert "nothing changed" in repo.git("theta", "status")
    repo.git("checkout", "-q", "main")
    repo.write_model("m/whole.safetensors", seed=3)
    repo.commit("main")
    repo.git("merge", "-q", "side")
    assert repo.read("m/empty.safetensors") == b""
    repo.write_model("m/empty.safetensors")
    assert "m/empty.safetensors" in repo.git("theta", "status")
