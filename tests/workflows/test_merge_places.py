"""Merges wherever git can be: bare repositories, linked work trees, submodules, SHA-256, and through a remote."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest
from helpers import (
    ATTENTION,
    EMBEDDING,
    MERGE_TREE,
    MODEL,
    Repo,
    WithHistory,
    model,
    needs_git,
    safetensors,
    tensors,
    values,
)

from git_theta_ext.model.manifest import Manifest

if TYPE_CHECKING:
    from pathlib import Path

IDS = "position_ids"
META = {"format": "pt", "note": "kept to the byte"}
ATTRIBUTES = "*.safetensors filter=theta diff=theta merge=theta -text\n"
SIDES = {"main": {EMBEDDING: 2, IDS: 2}, "a": {EMBEDDING: 3, ATTENTION[1]: 3, IDS: 3}, "b": {EMBEDDING: 4}}


def merged(seeds: list[int], changed: dict[str, int]) -> bytes:
    """Return the small model of seed 1 with the mean of some embeddings, and other changes."""
    content = tensors(1, changed)
    drawn = np.sort([np.frombuffer(values(EMBEDDING, seed), "<f4").astype("<f8") for seed in seeds], axis=0)
    content[EMBEDDING] = (*content[EMBEDDING][:2], (sum(drawn) / len(seeds)).astype("<f4").tobytes())
    return safetensors(content, META)


def applied(ours: int, theirs: int, changed: dict[str, int]) -> bytes:
    """Return the small model of seed 1 with what theirs changed the embedding by added to ours, and other changes."""
    content = tensors(1, changed)
    base, one, other = (np.frombuffer(values(EMBEDDING, seed), "<f4").astype("<f8") for seed in (1, ours, theirs))
    content[EMBEDDING] = (*content[EMBEDDING][:2], (one + (other - base)).astype("<f4").tobytes())
    return safetensors(content, META)


def fill(repo: Repo) -> Repo:
    """Commit a model whose branches ``main``, ``a`` and ``b`` changed one tensor; two changed integers as well."""
    repo.write_model(seed=1)
    repo.commit("base")
    repo.git("tag", "base")
    for name in ("a", "b", "main"):
        repo.switch("-B", name, "base")
        repo.write_model(seed=1, changed=SIDES[name])
        repo.commit(name)
    return repo


@pytest.fixture
def filled(with_history: WithHistory) -> Repo:
    """Return a repository with branches that changed the same."""
    return with_history(fill)


def settled(repo: Repo, words: list[str], prefix: str = "") -> None:
    """Merge, resolve the integers, commit; and see what comes of it."""
    branches = ["a", "b"] if "b" in words else ["a"]
    done = repo.run("merge", *words[: len(words) - len(branches)], *(prefix + name for name in branches), check=False)
    assert done.returncode == 1, done.stderr
    assert repo.git("status", "--porcelain") == f"UU {MODEL}"
    repo.git("theta", "resolve", "--method", "theirs1" if len(branches) > 1 else "theirs", MODEL)
    repo.git("commit", "--quiet", "--no-edit")
    seeds = [2, 3, 4] if len(branches) > 1 else [2, 3]
    assert repo.problems(MODEL, merged(seeds, {IDS: 3, ATTENTION[1]: 3})) == []
    assert "Theta-Merge: " in repo.git("log", "-1", "--format=%B")
    repo.git("theta", "merge", "--replay")


WORDS = pytest.mark.parametrize(
    "words", [["a"], pytest.param(["-s", "theta", "a", "b"], marks=MERGE_TREE)], ids=["two sides", "three sides"]
)


@WORDS
def test_in_a_linked_work_tree(filled: Repo, tmp_path: Path, words: list[str]) -> None:
    filled.git("worktree", "add", "--quiet", "-b", "linked", str(tmp_path / "linked"), "main")
    settled(Repo(tmp_path / "linked"), words)
    assert filled.problems(MODEL, model(1, SIDES["main"])) == []


@WORDS
def test_in_a_submodule(filled: Repo, tmp_path: Path, words: list[str]) -> None:
    outer = Repo(tmp_path / "outer")
    outer.path.mkdir()
    outer.git("theta", "install", "--global")
    outer.git("init", "--quiet")
    outer.git("submodule", "--quiet", "add", str(filled.path), "weights")
    settled(Repo(outer.path / "weights"), words, "origin/")


@MERGE_TREE
def test_in_a_sha256_repository(tmp_path: Path) -> None:
    made = Repo(tmp_path / "sha256")
    made.path.mkdir()
    made.git("init", "--quiet", "--object-format=sha256")
    made.git("theta", "install", "--local")
    made.git("theta", "track", "*.safetensors")
    fill(made)
    for words in (["a"], ["-s", "theta", "a", "b"]):
        settled(made, words)
        made.git("reset", "--quiet", "--hard", "HEAD^1")


@pytest.fixture
def bare(filled: Repo, shared: Repo) -> Repo:
    """Return a bare repository that has all branches, and whose HEAD is ``main``."""
    filled.git("push", "--quiet", "origin", "main", "a", "b")
    shared.git("symbolic-ref", "HEAD", "refs/heads/main")
    return shared


def attributes(bare: Repo) -> None:
    (bare.path / "info").mkdir(exist_ok=True)
    (bare.path / "info/attributes").write_text(ATTRIBUTES)


@MERGE_TREE
def test_in_a_bare_repository_that_makes_the_commit(bare: Repo, tmp_path: Path) -> None:
    attributes(bare)
    tree = bare.git("merge-tree", "--write-tree", "main", "b")
    commit = bare.git("commit-tree", "-p", "main", "-p", "b", "-m", "Merged on the server", tree)
    bare.git("update-ref", "refs/heads/main", commit)
    bare.git("clone", "--quiet", str(bare.path), str(tmp_path / "clone"))
    assert Repo(tmp_path / "clone").problems(MODEL, merged([2, 4], {IDS: 2})) == []


@MERGE_TREE
def test_in_a_bare_repository_conflicts_are_reported(bare: Repo) -> None:
    attributes(bare)
    done = bare.run("merge-tree", "--write-tree", "main", "a", check=False)
    assert done.returncode == 1
    assert f"CONFLICT (content): Merge conflict in {MODEL}" in done.stdout
    left = Manifest.parse(bare.run("cat-file", "blob", f"{done.stdout.split()[0]}:{MODEL}").stdout.encode())
    assert [conflict.name for conflict in left.conflicts] == [IDS]


@MERGE_TREE
def test_in_a_bare_repository_the_rules_of_head_count(bare: Repo, filled: Repo) -> None:
    attributes(bare)
    filled.write(b"version: 1\ndefaults: {method: theirs}\n", ".thetamerge")
    filled.commit("rules")
    filled.git("push", "--quiet", "origin", "main")
    tree = bare.git("merge-tree", "--write-tree", "main", "a")
    assert bare.git("rev-parse", f"{tree}:{MODEL}") == bare.git("rev-parse", f"a:{MODEL}")


@needs_git((2, 41), "--attr-source")
def test_in_a_bare_repository_attributes_may_come_from_a_commit(bare: Repo) -> None:
    tree = bare.git("--attr-source=HEAD", "merge-tree", "--write-tree", "main", "b")
    attributes(bare)
    assert bare.git("merge-tree", "--write-tree", "main", "b") == tree


@pytest.mark.parametrize(
    ("words", "seeds"),
    [
        (["--no-rebase", "origin", "main"], [4, 2]),
        (["--rebase", "origin", "main"], [2, 4]),
        pytest.param(
            ["--no-rebase", "-s", "theta", "-X", "weights=1,1,1", "origin", "main", "c"], [4, 2, 5], marks=MERGE_TREE
        ),
    ],
    ids=["merge", "rebase", "several"],
)
def test_by_git_pull(bare: Repo, filled: Repo, tmp_path: Path, words: list[str], seeds: list[int]) -> None:
    filled.switch("-b", "c", "base")
    filled.write_model(seed=1, changed={EMBEDDING: 5})
    filled.commit("c")
    filled.git("push", "--quiet", "origin", "c")
    filled.git("clone", "--quiet", "--branch", "b", str(bare.path), str(tmp_path / "clone"))
    clone = Repo(tmp_path / "clone")
    clone.git("pull", "--quiet", *words)
    wanted = applied(*seeds, {IDS: 2}) if "--rebase" in words else merged(seeds, {IDS: 2})
    assert clone.problems(MODEL, wanted) == []
    assert ("Theta-Merge" in clone.git("log", "-1", "--format=%B")) == ("--no-rebase" in words)
