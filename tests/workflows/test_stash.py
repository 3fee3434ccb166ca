"""git stash around checkpoints."""

from __future__ import annotations

import pytest
from helpers import ATTENTION, MODEL, Repo, model

pytestmark = pytest.mark.portable


def test_stash_brings_the_committed_file_back(two: Repo) -> None:
    two.write_model(seed=9)
    two.git("stash", "--quiet")
    assert two.problems(MODEL, model(2)) == []


def test_pop_brings_the_edits_back(two: Repo) -> None:
    two.write_model(seed=9)
    two.git("stash", "--quiet")
    two.git("stash", "pop", "--quiet")
    assert two.read() == model(9)
    assert two.git("status", "--porcelain") == f" M {MODEL}"


def test_pop_with_index_stages_what_was_staged(two: Repo) -> None:
    two.write_model(seed=9)
    two.git("add", MODEL)
    two.git("stash", "--quiet")
    two.git("stash", "pop", "--quiet", "--index")
    assert two.read() == model(9)
    assert two.git("status", "--porcelain") == f"M  {MODEL}"


def test_pop_merges_with_commits_made_meanwhile(two: Repo) -> None:
    two.write_model(seed=2, changed={ATTENTION[0]: 7})
    two.git("stash", "--quiet")
    two.write_model(seed=2, changed={ATTENTION[1]: 8})
    two.commit("meanwhile")
    two.git("stash", "pop", "--quiet")
    assert two.read() == model(2, {ATTENTION[0]: 7, ATTENTION[1]: 8})


def test_untracked_checkpoint_is_stashed_and_comes_back(repo: Repo) -> None:
    repo.write_model(seed=4)
    repo.git("stash", "--quiet", "--include-untracked")
    assert not (repo.path / MODEL).exists()
    repo.git("stash", "pop", "--quiet")
    assert repo.read() == model(4)


@pytest.mark.parametrize(
    "words", [["rebase", "side"], ["merge", "side"], ["merge", "-s", "theta", "side", "other"]], ids=" ".join
)
def test_edits_are_stashed_around_a_merge(forked: Repo, words: list[str]) -> None:
    forked.git("branch", "other", "base")
    forked.write_model(seed=1, changed={ATTENTION[0]: 2, ATTENTION[3]: 7})
    forked.git(words[0], "--autostash", *words[1:])
    assert forked.read() == model(1, {ATTENTION[0]: 2, ATTENTION[1]: 3, ATTENTION[3]: 7})
    assert forked.git("status", "--porcelain") == f" M {MODEL}"
    assert forked.git("stash", "list") == ""


def test_conflict_of_a_pop_is_settled_by_resolve_and_the_stash_is_kept_till_then(two: Repo) -> None:
    two.write_model(seed=2, changed={"position_ids": 7, ATTENTION[0]: 7})
    two.git("stash", "--quiet")
    two.write_model(seed=2, changed={"position_ids": 8})
    two.commit("meanwhile")
    assert two.run("stash", "pop", check=False).returncode == 1
    assert two.git("status", "--porcelain") == f"UU {MODEL}"
    assert two.git("stash", "list").startswith("stash@{0}")
    two.git("theta", "resolve", "--method", "theirs", MODEL)
    two.git("restore", "--staged", MODEL)
    assert two.read() == model(2, {"position_ids": 7, ATTENTION[0]: 7})
    assert two.git("status", "--porcelain") == f" M {MODEL}"


def test_pop_over_edits_is_refused_and_loses_neither(two: Repo) -> None:
    two.write_model(seed=7)
    two.git("stash", "--quiet")
    edited = two.write_model(seed=8)
    assert two.run("stash", "pop", check=False).returncode == 1
    assert two.read() == edited
    two.git("checkout", "--quiet", "--", MODEL)
    two.git("stash", "branch", "new")
    assert two.read() == model(7)
