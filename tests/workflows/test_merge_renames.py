"""Checkpoints that were renamed, moved with their folder, or made executable, and changed on all sides."""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING

import numpy as np
import pytest
from helpers import ATTENTION, EMBEDDING, MODEL, Repo, WithHistory, model, safetensors, tensors, values

if TYPE_CHECKING:
    from collections.abc import Callable

META = {"format": "pt", "note": "kept to the byte"}
MOVED, OTHER = "moved.safetensors", "other.safetensors"
OURS = ("-c", "theta.merge.method=ours")
"""Of a merge that decides and computes nothing."""


def taken(*seeds: int) -> bytes:
    """Return the small model of seed 1 with our embedding, and an attention of each seed's own."""
    return model(1, {EMBEDDING: 2} | {ATTENTION[seed - 2]: seed for seed in seeds})


def merged(*seeds: int) -> bytes:
    """Return the small model of seed 1 with the mean of some embeddings, and an attention of each seed's own."""
    content = tensors(1, {ATTENTION[seed - 2]: seed for seed in seeds})
    drawn = np.sort([np.frombuffer(values(EMBEDDING, seed), "<f4").astype("<f8") for seed in seeds], axis=0)
    content[EMBEDDING] = (*content[EMBEDDING][:2], (sum(drawn) / len(seeds)).astype("<f4").tobytes())
    return safetensors(content, META)


def side(repo: Repo, name: str, seed: int, path: str = MODEL) -> None:
    """Make a branch on which the model has another path, and is changed in its way."""
    repo.switch("-B", name, "base")
    if path != MODEL:
        (repo.path / path).parent.mkdir(parents=True, exist_ok=True)
        repo.git("mv", MODEL, path)
    repo.write_model(path, seed=1, changed={EMBEDDING: seed, ATTENTION[seed - 2]: seed})
    repo.commit(name)


def _started(repo: Repo) -> None:
    repo.write_model(seed=1)
    repo.commit("base")
    repo.git("tag", "base")


@cache
def renamed(*paths: str) -> Callable[[Repo], None]:
    """Return what makes the branches ``main``, ``a`` and ``b``, on which the model has these paths."""

    def make(repo: Repo) -> None:
        _started(repo)
        for number, name in ((1, "a"), (2, "b"), (0, "main")):
            side(repo, name, number + 2, paths[number])

    return make


@pytest.mark.parametrize("words", [["a"], ["-s", "theta", "a", "b"]], ids=["two sides", "three sides"])
@pytest.mark.parametrize("paths", [(MOVED, MODEL, MODEL), (MODEL, MOVED, MODEL), (MOVED, MOVED, MODEL)], ids=str)
def test_renamed_and_changed(with_history: WithHistory, words: list[str], paths: tuple[str, ...]) -> None:
    repo = with_history(renamed(*paths))
    repo.git(*OURS, "merge", "--quiet", *words)
    assert repo.problems(MOVED, taken(*(2, 3, 4)[: 2 + words.count("b")])) == []
    repo.git("theta", "merge", "--replay")


@pytest.mark.parametrize("words", [["b"], ["-s", "theta", "a", "b"]], ids=["two sides", "three sides"])
def test_renamed_to_different_names_both_hold_what_was_merged(with_history: WithHistory, words: list[str]) -> None:
    started = with_history(renamed(MOVED, MODEL, OTHER))
    done = started.run(*OURS, "merge", *words, check=False)
    assert "CONFLICT (rename/rename)" in done.stdout
    wanted = taken(*((2, 3, 4) if "a" in words else (2, 4)))
    assert [started.read(path) == wanted for path in (MOVED, OTHER)] == [True, True]
    started.git("rm", "--quiet", MODEL, OTHER)
    started.git("add", MOVED)
    started.git("commit", "--quiet", "--no-edit")
    assert started.problems(MOVED, wanted) == []


def test_renamed_to_different_names_and_in_conflict_is_resolved_under_the_name_that_stays(
    with_history: WithHistory,
) -> None:
    started = with_history(renamed(MOVED, MODEL, OTHER))
    started.run("-c", "theta.merge.method=conflict", "merge", "b", check=False)
    started.git("theta", "resolve", "--method", "average", OTHER)
    started.git("rm", "--quiet", "--force", MODEL, MOVED)
    started.git("commit", "--quiet", "--no-edit")
    assert started.problems(OTHER, merged(2, 4)) == []


@pytest.mark.parametrize("words", [["a"], ["-s", "theta", "a", "b"]], ids=["two sides", "three sides"])
def test_moved_with_its_folder(repo: Repo, words: list[str]) -> None:
    repo.write_model("old/model.safetensors", seed=1)
    repo.write(b"notes", "old/notes.txt")
    repo.commit("folder")
    base = repo.git("rev-parse", "HEAD")
    for name, seed, folder in (("a", 3, "new"), ("b", 4, "old"), ("main", 2, "old")):
        repo.switch("-B", name, base)
        if folder != "old":
            repo.git("mv", "old", folder)
        changed = {EMBEDDING: seed, ATTENTION[seed - 2]: seed}
        repo.write_model(f"{folder}/model.safetensors", seed=1, changed=changed)
        repo.commit(name)
    repo.git(*OURS, "merge", "--quiet", *words)
    assert not (repo.path / "old").exists()
    assert repo.problems("new/model.safetensors", taken(*((2, 3, 4) if "b" in words else (2, 3)))) == []


def _executable(repo: Repo) -> None:
    _started(repo)
    side(repo, "a", 3)
    side(repo, "b", 4)
    (repo.path / MODEL).chmod(0o755)
    repo.git("commit", "--quiet", "--amend", "--all", "--no-edit")
    side(repo, "main", 2)


@pytest.mark.parametrize("words", [["b"], ["-s", "theta", "a", "b"]], ids=["two sides", "three sides"])
@pytest.mark.parametrize("method", ["ours", "conflict"])
def test_mode_of_the_side_that_changed_it_is_taken(with_history: WithHistory, words: list[str], method: str) -> None:
    started = with_history(_executable)
    started.run("-c", f"theta.merge.method={method}", "merge", "--quiet", *words, check=False)
    if method == "conflict":
        started.git("theta", "resolve", "--method", "ours", MODEL)
        started.git("commit", "--quiet", "--no-edit")
    assert started.git("ls-files", "--stage", MODEL).startswith("100755")
    assert (started.path / MODEL).stat().st_mode & 0o777 == 0o755
    assert started.problems(MODEL, taken(*((2, 3, 4) if "a" in words else (2, 4)))) == []
