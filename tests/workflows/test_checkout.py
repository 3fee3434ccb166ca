"""Commands that write the work tree from a commit or the index."""

from __future__ import annotations

import hashlib
import os
import time

import pytest
from helpers import MODEL, Repo, model

ONE, TWO = model(1), model(2)


@pytest.mark.parametrize(
    "command",
    [
        ["checkout", "--quiet", "one"],
        ["switch", "--quiet", "--detach", "one"],
        ["reset", "--quiet", "--hard", "one"],
        ["read-tree", "-u", "--reset", "one"],
        ["checkout", "--quiet", "-b", "new", "one"],
    ],
    ids=" ".join,
)
def test_moving_to_another_version_writes_its_file(two: Repo, command: list[str]) -> None:
    two.git(*command)
    assert two.read() == ONE
    assert two.cleans("status") == 0
    staged = two.git("diff", "--cached", "--name-only")
    assert staged == (MODEL if command[0] == "read-tree" else "")
    assert two.git("diff", "--name-only") == ""


def test_file_has_the_digest_it_was_committed_with(two: Repo) -> None:
    two.git("checkout", "--quiet", "one")
    assert two.sha() == hashlib.sha256(ONE).hexdigest()


def test_there_and_back_again(two: Repo) -> None:
    for tag, data in [("one", ONE), ("two", TWO)] * 2:
        two.git("checkout", "--quiet", tag)
        assert two.problems(MODEL, data) == []


def test_checkout_of_a_path_from_another_commit_stages_it(two: Repo) -> None:
    two.git("checkout", "--quiet", "one", "--", MODEL)
    assert two.read() == ONE
    assert two.cleans("status") == 0
    assert two.git("status", "--porcelain") == f"M  {MODEL}"


def test_restore_from_another_commit_leaves_the_index(two: Repo) -> None:
    two.git("restore", "--source=one", MODEL)
    assert two.read() == ONE
    assert two.git("status", "--porcelain") == f" M {MODEL}"


def test_restore_staged_and_worktree_from_another_commit(two: Repo) -> None:
    two.git("restore", "--source=one", "--staged", "--worktree", MODEL)
    assert two.read() == ONE
    assert two.git("status", "--porcelain") == f"M  {MODEL}"


@pytest.mark.parametrize(
    "command", [["restore", MODEL], ["checkout", "--", MODEL], ["checkout-index", "-f", "-u", MODEL]], ids=" ".join
)
@pytest.mark.parametrize("damage", ["deleted", "changed"])
def test_file_comes_back_from_the_index(two: Repo, command: list[str], damage: str) -> None:
    if damage == "deleted":
        (two.path / MODEL).unlink()
    else:
        two.write_model(seed=9)
    two.git(*command)
    assert two.problems(MODEL, TWO) == []


def test_commands_in_a_subdirectory_reach_files_there_and_above(repo: Repo) -> None:
    repo.write_model("sub/deep/inner.safetensors", seed=1)
    repo.write_model(seed=1)
    repo.commit("one")
    repo.write_model("sub/deep/inner.safetensors", seed=2)
    repo.write_model(seed=2)
    repo.commit("two")
    inside = Repo(repo.path / "sub" / "deep")
    inside.git("checkout", "--quiet", "HEAD~1", "--", ".", f"../../{MODEL}")
    assert inside.read("inner.safetensors") == ONE
    assert repo.read() == ONE
    inside.git("reset", "--quiet", "--hard")
    assert repo.problems(MODEL, TWO) == []
    assert repo.problems("sub/deep/inner.safetensors", TWO) == []


@pytest.mark.parametrize(
    "name", ["my model.safetensors", "modèle-Ω.safetensors", 'quo"te\\.safetensors', "-dash.safetensors"]
)
def test_odd_file_names(repo: Repo, name: str) -> None:
    repo.write(ONE, name)
    repo.commit("one", by_filter=True)
    (repo.path / name).unlink()
    repo.git("checkout", "--", name)
    assert repo.problems(name, ONE) == []


@pytest.mark.parametrize("mode", [0o644, 0o755])
def test_executable_bit_survives(repo: Repo, mode: int) -> None:
    repo.write(ONE)
    (repo.path / MODEL).chmod(mode)
    repo.commit("one")
    (repo.path / MODEL).unlink()
    repo.git("checkout", "--", MODEL)
    assert os.access(repo.path / MODEL, os.X_OK) == bool(mode & 0o100)
    assert repo.problems(MODEL, ONE) == []


def test_many_files_in_one_checkout(repo: Repo) -> None:
    files = {f"shards/part-{n:02}.safetensors": model(n) for n in range(12)}
    for path, data in files.items():
        repo.write(data, path)
    repo.commit("shards")
    repo.git("checkout", "--quiet", "HEAD~1")
    assert not (repo.path / "shards").exists()
    repo.git("checkout", "--quiet", "main")
    for path, data in files.items():
        assert repo.read(path) == data
    assert repo.cleans("status") == 0


def test_skipping_smudge_leaves_manifests_that_checkout_populates(two: Repo) -> None:
    two.git("checkout", "--quiet", "one", env={**os.environ, "GIT_THETA_SKIP_SMUDGE": "1"})
    assert two.read().startswith(b"git-theta manifest 1\n")
    assert two.git("status", "--porcelain") == ""
    two.git("theta", "checkout")
    assert two.problems(MODEL, ONE) == []


def test_local_edits_are_not_overwritten(two: Repo) -> None:
    edited = two.write_model(seed=9)
    done = two.run("checkout", "one", check=False)
    assert done.returncode != 0
    assert two.read() == edited


def test_touched_file_is_cleaned_once_which_shows_that_cleans_are_counted(two: Repo) -> None:
    os.utime(two.path / MODEL, (1_000_000_000, 1_000_000_000))
    assert two.cleans("status") == 1
    assert two.cleans("status") == 0


def test_touched_file_is_cleaned_each_time_without_optional_locks(two: Repo) -> None:
    os.utime(two.path / MODEL, (1_000_000_000, 1_000_000_000))
    assert two.cleans("--no-optional-locks", "status") == 1
    assert two.git("--no-optional-locks", "status", "--porcelain") == ""


def test_checkout_is_settled_without_optional_locks(two: Repo) -> None:
    two.git("--no-optional-locks", "checkout", "--quiet", "one")
    assert two.cleans("--no-optional-locks", "status") == 0
    assert two.problems(MODEL, ONE) == []


@pytest.mark.parametrize(
    "commands",
    [
        [["restore", "--source=one", MODEL]],
        [["checkout", "one", "--", MODEL], ["stash", "--quiet"], ["stash", "pop", "--quiet"]],
    ],
    ids=["restore", "stash pop"],
)
def test_a_version_that_the_index_does_not_have_is_as_young_as_git_made_it(
    two: Repo, commands: list[list[str]]
) -> None:
    # Dated back it could have the stat data of the index's version, and git would see no change.
    for words in commands[:-1]:
        two.git(*words)
    began = time.time()
    two.git(*commands[-1])
    assert two.read() == ONE
    assert (two.path / MODEL).stat().st_mtime > began - 0.5
    assert two.git("status", "--porcelain").endswith(MODEL)
