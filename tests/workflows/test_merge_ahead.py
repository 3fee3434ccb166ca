"""Several checkpoints in one merge: git's first call of the driver merges all, and the others get the answers."""

from __future__ import annotations

import os
from contextlib import closing
from typing import TYPE_CHECKING

import pytest
from helpers import ATTENTION, EMBEDDING, WITHOUT_FILTER, Repo, WithHistory, model, packs_of

from git_theta_ext.model.tensor import Digest
from git_theta_ext.store.store import Store

if TYPE_CHECKING:
    from subprocess import CompletedProcess

FILES = ("a/model.safetensors", "b/model.safetensors", "c/model.safetensors")
TIMES = os.environ | {"PYTHONPROFILEIMPORTTIME": "1"}


def _write(repo: Repo, message: str, *seeds: int) -> None:
    for path, seed in zip(FILES, seeds, strict=True):
        repo.write(model(seed // 100, {EMBEDDING: seed, ATTENTION[0]: seed}), path)
    repo.commit(message)


def _branches(repo: Repo) -> None:
    _write(repo, "base", 0, 100, 200)
    repo.switch("-b", "side")
    _write(repo, "theirs", 2, 102, 202)
    _write(repo, "theirs again", 4, 104, 204)
    repo.switch("main")
    _write(repo, "ours", 6, 106, 206)


def _problems(repo: Repo, seed: int) -> list[str]:
    """Return what is wrong with the files if both tensors that a side changed are those of a seed."""
    seeds = [100 * n + seed for n in range(len(FILES))]
    models = [model(n, {EMBEDDING: seed, ATTENTION[0]: seed}) for n, seed in enumerate(seeds)]
    return [problem for path, data in zip(FILES, models, strict=True) for problem in repo.problems(path, data)]


def _drivers(done: CompletedProcess[str]) -> int:
    """Return how many calls of the driver merged."""
    modules = [line.rpartition(" ")[2] for line in done.stderr.splitlines()]
    return modules.count("git_theta_ext.operations.merge.driver")


THEIRS = ("-c", "theta.merge.method=theirs", "-c", "theta.merge.replay=theirs")


@pytest.mark.parametrize("words", [["merge"], ["merge", "--strategy=theta"], ["cherry-pick"]], ids=" ".join)
def test_one_call_of_the_driver_merges_all_checkpoints(with_history: WithHistory, words: list[str]) -> None:
    repo = with_history(_branches)
    done = repo.run(*THEIRS, *words, "side", env=TIMES)
    assert _drivers(done) == 1
    assert [done.stderr.count(f"git-theta: {path}: ") for path in FILES] == [1, 1, 1]
    assert _problems(repo, 4) == []


def test_each_commit_of_a_rebase_is_merged_by_one_call(with_history: WithHistory) -> None:
    repo = with_history(_branches)
    repo.switch("side")
    assert _drivers(repo.run("-c", "theta.merge.replay=ours", "rebase", "main", env=TIMES)) == 2
    assert _problems(repo, 6) == []


def test_commits_that_are_picked_into_the_index_are_merged_one_by_one(with_history: WithHistory) -> None:
    repo = with_history(_branches)
    repo.run("-c", "theta.merge.replay=ours", "cherry-pick", "--no-commit", "side~1", "side")
    assert _problems(repo, 6) == []


def test_files_that_cannot_be_merged_are_left_to_their_own_calls(with_history: WithHistory) -> None:
    def make(repo: Repo) -> None:
        _branches(repo)
        repo.write(b"no manifest", FILES[1])
        repo.git(*WITHOUT_FILTER, "commit", "--quiet", "--all", "--message=raw")

    repo = with_history(make)
    done = repo.run("-c", "theta.merge.method=conflict", "merge", "side", check=False, env=TIMES)
    assert _drivers(done) == 2
    assert "b/model.safetensors: our version is not a manifest" in done.stderr
    assert sorted({line[3:] for line in repo.git("status", "--short").splitlines()}) == sorted(FILES)
    assert [repo.read(path).startswith(b"git-theta") for path in FILES] == [True, False, True]


def test_results_of_several_checkpoints_share_a_pack(with_history: WithHistory) -> None:
    repo = with_history(_branches)
    packs = repo.path / ".git/theta/packs"
    before = set(packs.rglob("*"))
    repo.run("-c", "theta.merge.method=average", "merge", "side")
    new = [path for path in packs.rglob("*") if path not in before and path.is_file()]
    assert len(new) == 2  # the first file is merged alone
    repo.git("theta", "fsck", "--full")
    assert repo.git("status", "--short") == ""


def test_a_missing_value_leaves_only_its_file_in_conflict(with_history: WithHistory) -> None:
    repo = with_history(_branches)
    (line,) = (line for line in repo.git("show", f"side:{FILES[1]}").splitlines() if f'"{EMBEDDING}"' in line)
    with closing(Store(repo.path / ".git/theta")) as store:
        (pack,) = packs_of(store, [Digest(line.split("\t")[3])])
        store.pack_path(pack).unlink()
    repo.run("-c", "theta.merge.method=average", "merge", "side", check=False)
    assert repo.git("diff", "--name-only", "--diff-filter=U").splitlines() == [FILES[1]]
    assert [b"conflict" in repo.read(path) for path in FILES] == [False, True, False]
