"""Merges that git and the merge driver decide."""

from __future__ import annotations

import numpy as np
import pytest
from helpers import (
    ATTENTION,
    EMBEDDING,
    MERGE_TREE,
    MLP,
    MODEL,
    SPECS,
    Repo,
    WithHistory,
    model,
    safetensors,
    tensors,
    values,
)
from safetensors.torch import load

from git_theta_ext.model.manifest import Manifest

META = {"format": "pt", "note": "kept to the byte"}


def test_fast_forward(two: Repo) -> None:
    two.git("reset", "--quiet", "--hard", "one")
    two.git("merge", "--quiet", "--ff-only", "two")
    assert two.problems(MODEL, model(2)) == []


def test_file_changed_on_the_other_side_only(forked: Repo) -> None:
    forked.switch("-b", "third", "base")
    forked.write(b"notes", "notes.txt")
    forked.commit("notes")
    forked.git("merge", "--quiet", "side")
    assert forked.problems(MODEL, model(1, {ATTENTION[1]: 3})) == []


def test_tensors_changed_on_one_side_each_are_both_taken(forked: Repo) -> None:
    forked.git("merge", "--quiet", "side")
    assert forked.problems(MODEL, model(1, {ATTENTION[0]: 2, ATTENTION[1]: 3})) == []


def test_merge_is_committed_with_both_parents(forked: Repo) -> None:
    forked.git("merge", "--quiet", "side")
    assert len(forked.git("log", "-1", "--format=%P").split()) == 2


def _change_both(repo: Repo, *names: str) -> None:
    repo.write_model(seed=1)
    repo.commit("base")
    repo.switch("-b", "side")
    repo.write_model(seed=1, changed=dict.fromkeys(names, 3))
    repo.commit("side")
    repo.switch("main")
    repo.write_model(seed=1, changed=dict.fromkeys(names, 2))
    repo.commit("main")


def _change_floats(repo: Repo) -> None:
    _change_both(repo, ATTENTION[2], MLP[0])


def _change_integers(repo: Repo) -> None:
    _change_both(repo, "position_ids")


@pytest.fixture
def floats(with_history: WithHistory) -> Repo:
    """Return a repository whose ``main`` and ``side`` changed a float32 and a bfloat16 tensor to seeds 2 and 3."""
    return with_history(_change_floats)


@pytest.fixture
def integers(with_history: WithHistory) -> Repo:
    """Return a repository whose ``main`` and ``side`` changed an integer tensor to seeds 2 and 3."""
    return with_history(_change_integers)


def averaged() -> bytes:
    """Return the small model of seed 1 with two tensors the mean of those of seeds 2 and 3."""
    content = tensors(1)
    ours, theirs = (np.frombuffer(values(ATTENTION[2], seed), "<f4") for seed in (2, 3))
    content[ATTENTION[2]] = (*content[ATTENTION[2]][:2], ((ours + theirs) / np.float32(2)).tobytes())
    ours, theirs = (np.frombuffer(values(MLP[0], seed), "<u2").astype("<u4") << 16 for seed in (2, 3))
    mean = ((ours.view("<f4") + theirs.view("<f4")) / np.float32(2)).view("<u4").astype(np.uint64)
    rounded = ((mean + 0x7FFF + ((mean >> 16) & 1)) >> 16).astype("<u2")
    content[MLP[0]] = (*content[MLP[0]][:2], rounded.tobytes())
    return safetensors(content, META)


@pytest.mark.parametrize("branches", [("main", "side"), ("side", "main")], ids=" ".join)
def test_tensors_changed_on_both_sides_are_averaged_whichever_is_ours(floats: Repo, branches: tuple[str, str]) -> None:
    floats.switch(branches[0])
    floats.git("merge", "--quiet", branches[1])
    assert floats.problems(MODEL, averaged()) == []


@pytest.mark.parametrize(("method", "seed"), [("ours", 2), ("theirs", 3), ("base", 1)])
def test_method_is_chosen_on_the_command_line(floats: Repo, method: str, seed: int) -> None:
    floats.git("-c", f"theta.merge.method={method}", "merge", "--quiet", "side")
    assert floats.problems(MODEL, model(1, {ATTENTION[2]: seed, MLP[0]: seed})) == []


def test_unknown_method_fails_and_names_the_known_ones(floats: Repo) -> None:
    done = floats.run("-c", "theta.merge.method=avarage", "merge", "side", check=False)
    assert done.returncode != 0
    assert "average" in done.stdout + done.stderr
    floats.git("merge", "--abort")
    assert floats.problems(MODEL, model(1, {ATTENTION[2]: 2, MLP[0]: 2})) == []


@pytest.mark.parametrize(("choice", "seed"), [("ours", 2), ("theirs", 3)])
def test_integers_changed_on_both_sides_conflict_until_resolved(integers: Repo, choice: str, seed: int) -> None:
    done = integers.run("merge", "side", check=False)
    assert done.returncode == 1
    assert integers.git("status", "--porcelain") == f"UU {MODEL}"
    assert integers.read().startswith(b"git-theta manifest 1\n")
    assert integers.run("add", MODEL, check=False).returncode != 0, "a conflicted manifest must not be added"
    integers.git("theta", "resolve", "--method", choice, MODEL)
    integers.git("commit", "--quiet", "--no-edit")
    assert integers.problems(MODEL, model(1, {"position_ids": seed})) == []


@pytest.mark.parametrize(("side", "seed"), [("--ours", 2), ("--theirs", 3)])
def test_checkout_of_one_side_of_a_conflict(integers: Repo, side: str, seed: int) -> None:
    integers.run("merge", "side", check=False)
    integers.git("checkout", side, "--", MODEL)
    wanted = model(1, {"position_ids": seed})
    assert integers.read() == wanted
    integers.git("add", MODEL)
    integers.git("commit", "--quiet", "--no-edit")
    assert integers.read() == wanted
    assert integers.git("status", "--porcelain") == ""


def test_aborted_merge_brings_the_file_back(integers: Repo) -> None:
    integers.run("merge", "side", check=False)
    integers.git("merge", "--abort")
    assert integers.problems(MODEL, model(1, {"position_ids": 2})) == []


def test_both_sides_add_the_same_file_with_different_tensors(repo: Repo) -> None:
    repo.switch("-b", "side")
    repo.write_model(seed=3)
    repo.commit("side")
    repo.switch("main")
    repo.write_model(seed=2)
    repo.commit("main")
    done = repo.run("merge", "side", check=False)
    assert done.returncode == 1
    assert repo.git("status", "--porcelain") == f"AA {MODEL}"
    repo.git("theta", "resolve", "--method", "theirs", MODEL)
    repo.git("commit", "--quiet", "--no-edit")
    assert repo.problems(MODEL, model(3)) == []


@pytest.mark.parametrize(
    "words",
    [
        pytest.param(["side"], id="two sides"),
        pytest.param(["-s", "theta", "side", "third"], id="three sides", marks=MERGE_TREE),
    ],
)
def test_file_that_all_sides_add_conflicts_only_where_they_differ(repo: Repo, words: list[str]) -> None:
    for number, name in enumerate(("side", "third", "main"), 1):
        repo.switch("-B", name, "HEAD" if number == 1 else "side~1")
        content = tensors(1, {ATTENTION[0]: number})
        if name != "main":
            content |= {f"head.{name}": ("F32", (1,), np.float32(number).tobytes())}
        repo.write(safetensors(content))
        repo.commit(name)
    assert repo.run("merge", *words, check=False).returncode == 1
    left = Manifest.parse(repo.read())
    assert [conflict.name for conflict in left.conflicts] == [ATTENTION[0]]
    repo.git("theta", "resolve", "--method", "ours", MODEL)
    repo.git("commit", "--quiet", "--no-edit")
    heads = {"head.side", "head.third"} if "third" in words else {"head.side"}
    merged = load(repo.read())
    assert set(merged) == {*SPECS, *heads}
    assert merged[ATTENTION[0]].numpy().tobytes() == values(ATTENTION[0], 3)
    assert merged[EMBEDDING].numpy().tobytes() == values(EMBEDDING, 1)


def test_both_sides_add_different_parameters(repo: Repo) -> None:
    base, ours, theirs = (dict.fromkeys(ATTENTION, tensors(1)[ATTENTION[0]]) for _ in range(3))
    extra = np.arange(6, dtype="<f4").tobytes()
    ours["head.ours"] = theirs["head.theirs"] = ("F32", (2, 3), extra)
    repo.write(safetensors(base))
    repo.commit("base")
    repo.switch("-b", "side")
    repo.write(safetensors(theirs))
    repo.commit("side")
    repo.switch("main")
    repo.write(safetensors(ours))
    repo.commit("main")
    repo.git("merge", "--quiet", "side")
    ours["head.theirs"] = theirs["head.theirs"]
    merged = load(repo.read())
    assert {name: array.numpy().tobytes() for name, array in merged.items()} == {n: t[2] for n, t in ours.items()}
    assert repo.cleans("status") == 0


def test_model_deleted_on_one_side_and_changed_on_the_other_conflicts(forked: Repo) -> None:
    forked.switch("-b", "gone", "base")
    forked.git("rm", "--quiet", MODEL)
    forked.git("commit", "--quiet", "--message", "gone")
    assert forked.run("merge", "side", check=False).returncode == 1
    assert forked.git("status", "--porcelain") == f"DU {MODEL}"
    assert forked.read() == model(1, {ATTENTION[1]: 3})


def test_renamed_on_one_side_and_changed_on_the_other(forked: Repo) -> None:
    forked.switch("-b", "moved", "base")
    forked.git("mv", MODEL, "moved.safetensors")
    forked.git("commit", "--quiet", "--message", "moved")
    forked.git("merge", "--quiet", "side")
    assert not (forked.path / MODEL).exists()
    assert forked.problems("moved.safetensors", model(1, {ATTENTION[1]: 3})) == []


def test_criss_cross_merge_takes_what_each_side_changed(forked: Repo) -> None:
    main, side = forked.git("rev-parse", "main"), forked.git("rev-parse", "side")
    forked.git("merge", "--quiet", side)
    forked.switch("side")
    forked.git("merge", "--quiet", main)
    merged = {ATTENTION[0]: 2, ATTENTION[1]: 3}
    forked.write_model(seed=1, changed=merged | {EMBEDDING: 4})
    forked.commit("side goes on")
    forked.switch("main")
    forked.write_model(seed=1, changed=merged | {ATTENTION[3]: 5})
    forked.commit("main goes on")
    forked.git("merge", "--quiet", "side")
    assert forked.problems(MODEL, model(1, merged | {EMBEDDING: 4, ATTENTION[3]: 5})) == []


@MERGE_TREE
def test_criss_cross_merge_of_a_tensor_that_both_sides_changed_asks_nothing(floats: Repo) -> None:
    main, side = floats.git("rev-parse", "main"), floats.git("rev-parse", "side")
    floats.git("-c", "theta.merge.method=ours", "merge", "--quiet", side)
    floats.switch("side")
    floats.git("-c", "theta.merge.method=ours", "merge", "--quiet", main)
    floats.switch("main")
    done = floats.run("merge", "--quiet", "side", check=False, timeout=60)
    assert done.returncode == 0, done.stderr
    assert "2 merged by average" in done.stderr, "each side kept its own, and neither is what the ancestor had"
    assert floats.cleans("status") == 0
    floats.git("reset", "--quiet", "--hard", "HEAD~1")
    for words in (["merge"], ["merge", "-s", "theta"]):
        done = floats.run("-c", "theta.merge.method=task_arithmetic", *words, "side", check=False, timeout=60)
        assert done.returncode == 1, done.stderr
        output = floats.run("theta", "resolve", MODEL, check=False).stdout
        assert f"{ATTENTION[2]}  (the common ancestors differ, and so do the sides)" in output
        floats.git("merge", "--abort")


@pytest.mark.parametrize("strategy", [["-s", "ort"], ["-s", "recursive"], ["-X", "renormalize"]], ids=" ".join)
def test_merge_strategies_of_git(forked: Repo, strategy: list[str]) -> None:
    forked.git("merge", "--quiet", *strategy, "side")
    assert forked.problems(MODEL, model(1, {ATTENTION[0]: 2, ATTENTION[1]: 3})) == []


def test_merge_without_commit_leaves_the_merged_file(forked: Repo) -> None:
    forked.git("merge", "--quiet", "--no-commit", "side")
    assert forked.read() == model(1, {ATTENTION[0]: 2, ATTENTION[1]: 3})
    assert forked.cleans("status") == 0


def test_squash_merge(forked: Repo) -> None:
    forked.git("merge", "--quiet", "--squash", "side")
    forked.git("commit", "--quiet", "--message", "squashed")
    assert forked.problems(MODEL, model(1, {ATTENTION[0]: 2, ATTENTION[1]: 3})) == []
    assert len(forked.git("log", "-1", "--format=%P").split()) == 1


@MERGE_TREE
def test_merge_tree_writes_the_merged_manifest_without_a_work_tree(forked: Repo) -> None:
    tree = forked.git("merge-tree", "--write-tree", "main", "side").splitlines()[0]
    forked.git("merge", "--quiet", "side")
    assert forked.git("rev-parse", "HEAD^{tree}") == tree


def test_own_strategy_merges_two_heads(forked: Repo) -> None:
    forked.git("merge", "--quiet", "-s", "theta", "side")
    assert forked.problems(MODEL, model(1, {ATTENTION[0]: 2, ATTENTION[1]: 3})) == []
