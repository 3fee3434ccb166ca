"""A merge that is killed while it computes leaves nothing half written, and goes on when it is run again."""

from __future__ import annotations

import os
import signal
from typing import TYPE_CHECKING

import numpy as np
import pytest
from helpers import MODEL, Repo, WithHistory, safetensors
from kills import end_group, held, unlock

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

TENSORS, ELEMENTS = 40, 1 << 20
"""160 MB: results become durable, and are noted, 64 MB at a time."""
TWO, THREE = ["merge", "a"], ["merge", "-s", "theta", "a", "b"]


def large(seed: int) -> bytes:
    """Return a model that is large to merge and small to store: each tensor has one value."""
    content = {f"layer.{n:02}": np.full(ELEMENTS, 100 * seed + n, "<f4").tobytes() for n in range(TENSORS)}
    return safetensors({name: ("F32", (ELEMENTS,), data) for name, data in content.items()})


def _branches(repo: Repo) -> None:
    repo.write(large(1))
    repo.commit("base")
    repo.git("tag", "base")
    for seed, name in ((3, "a"), (4, "b"), (2, "main")):
        repo.git("checkout", "--quiet", "-B", name, "base")
        repo.write(large(seed))
        repo.commit(name)


@pytest.fixture
def branches(with_history: WithHistory) -> Repo:
    """Return a repository whose ``main``, ``a`` and ``b`` changed all of a large model."""
    return with_history(_branches)


@pytest.fixture
def holding(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder for what holds a process."""
    return tmp_path_factory.mktemp("holding")


def journal(repo: Repo) -> list[str]:
    found = [path for path in (repo.path / ".git/theta/merging").glob("*") if path.is_file()]
    return [line for path in found for line in path.read_text().splitlines() if line]


def kill(repo: Repo, words: Sequence[str], folder: Path, *, git_too: bool = False) -> None:
    """Start a merge, and kill the process that merges, or git as well, as soon as some tensors are merged."""
    at = ("git_theta_ext.merging.execution.journal", "Journal", "record")
    with held(repo, folder, ["git", *words], at, 1) as (merging, process):
        if git_too:
            end_group(merging)
        else:
            os.kill(process, signal.SIGKILL)
            merging.wait(60)
    assert 0 < len(journal(repo)) < TENSORS


def is_as_before(repo: Repo) -> bool:
    unlock(repo.path / ".git")
    left = {path.name for path in repo.path.iterdir()} - {".git", ".gitattributes", MODEL}
    # Git's own copies of the sides, which it removes unless it is killed itself.
    return repo.problems(MODEL, large(2)) == [] and not [name for name in left if not name.startswith(".merge_file")]


def finished(repo: Repo, words: Sequence[str]) -> None:
    """Run the merge again, and see that it comes to what one that was not killed comes to."""
    repo.git(*words)
    assert repo.problems(MODEL, repo.read()) == []
    assert journal(repo) == []
    repo.git("theta", "fsck")
    values = np.frombuffer(repo.read()[-4 * TENSORS * ELEMENTS :], "<f4").reshape(TENSORS, ELEMENTS)
    mean = 300 if words == THREE else 250
    assert np.array_equal(values, np.arange(mean, mean + TENSORS, dtype="<f4")[:, None].repeat(ELEMENTS, 1))


def test_killed_driver_leaves_a_conflict_that_can_be_given_up_or_resolved(branches: Repo, holding: Path) -> None:
    kill(branches, TWO, holding)
    assert branches.git("status", "--porcelain") == f"UU {MODEL}"
    assert branches.run("commit", "--all", "--no-edit", check=False).returncode != 0
    branches.git("merge", "--abort")
    assert is_as_before(branches)
    finished(branches, TWO)


def test_killed_strategy_changes_nothing(branches: Repo, holding: Path) -> None:
    kill(branches, THREE, holding)
    assert is_as_before(branches)
    assert not (branches.path / ".git/MERGE_HEAD").exists()
    finished(branches, THREE)


@pytest.mark.parametrize("words", [TWO, THREE], ids=["two sides", "three sides"])
def test_killed_with_git(branches: Repo, words: list[str], holding: Path) -> None:
    kill(branches, words, holding, git_too=True)
    assert is_as_before(branches)
    finished(branches, words)
