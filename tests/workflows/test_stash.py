"""git stash around checkpoints."""

from __future__ import annotations

from workbench import ATTENTION, MODEL, Repo, model


def test_stash_brings_the_committed_file_back(two: Repo) -> None:
    two.write_model(seed=9)
    two.git("stash", "--quiet")
    assert two.unsettled(MODEL, model(2)) == []


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
