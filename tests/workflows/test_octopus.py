"""Merges of several branches at once: ``git merge -s theta A B C``."""

from __future__ import annotations

import subprocess
from pathlib import Path

import numpy as np
import pytest
import torch
from helpers import ATTENTION, EMBEDDING, MERGE_TREE, MLP, MODEL, Repo, WithHistory, model, safetensors, tensors, values
from safetensors.torch import load

pytestmark = MERGE_TREE
META = {"format": "pt", "note": "kept to the byte"}
OURS = ("-s", "theta", "-X", "method=ours")
"""Of a merge that decides and computes nothing."""
COLD_FUSION = Path(__file__).parents[2] / "scripts" / "cold_fusion"
TEXT = "1\n2\n3\n4\n5\n6\n7\n8\n9\n"


def branch(repo: Repo, name: str, changed: dict[str, int] | None = None, start: str = "base", **files: str) -> str:
    """Make a branch with one commit; HEAD is on ``main`` again afterwards."""
    repo.switch("-b", name, start)
    if changed is not None:
        repo.write_model(seed=1, changed=changed)
    for stem, text in files.items():
        repo.write(text.encode(), f"{stem}.txt")
    commit = repo.commit(name)
    repo.switch("main")
    return commit


def mean_of(name: str, seeds: list[int]) -> bytes:
    drawn = np.sort([np.frombuffer(values(name, seed), "<f4").astype("<f8") for seed in seeds], axis=0)
    return (sum(drawn) / len(seeds)).astype("<f4").tobytes()


def with_mean(name: str, seeds: list[int], changed: dict[str, int] | None = None) -> bytes:
    content = tensors(1, changed)
    content[name] = (*content[name][:2], mean_of(name, seeds))
    return safetensors(content, META)


def _started(repo: Repo) -> None:
    repo.write_model(seed=1)
    repo.write(TEXT.encode(), "notes.txt")
    repo.commit("base")
    repo.git("tag", "base")


@pytest.fixture
def started(with_history: WithHistory) -> Repo:
    """Return a repository whose ``main`` and tag ``base`` have the model of seed 1, and a text file."""
    return with_history(_started)


def _three(repo: Repo) -> None:
    _started(repo)
    branch(repo, "a", {EMBEDDING: 3, ATTENTION[1]: 3}, notes=TEXT.replace("1", "one"))
    branch(repo, "b", {EMBEDDING: 4, ATTENTION[2]: 4}, notes=TEXT.replace("5", "five"))
    branch(repo, "c", {EMBEDDING: 5, MLP[3]: 5}, notes=TEXT.replace("9", "nine"), extra="of c")
    repo.write_model(seed=1, changed={EMBEDDING: 2, ATTENTION[0]: 2})
    repo.commit("main goes on")


@pytest.fixture
def three(with_history: WithHistory) -> Repo:
    """Return a repository in which ``main``, ``a``, ``b`` and ``c`` changed the embedding and a tensor of their own."""
    return with_history(_three)


def parents(repo: Repo) -> list[str]:
    return repo.git("log", "-1", "--format=%P").split()


def test_several_branches_become_one_commit_with_all_parents(three: Repo) -> None:
    heads = [three.git("rev-parse", name) for name in ("main", "a", "b", "c")]
    three.git("merge", "--quiet", "-s", "theta", "a", "b", "c")
    assert parents(three) == heads
    changed = {ATTENTION[0]: 2, ATTENTION[1]: 3, ATTENTION[2]: 4, MLP[3]: 5}
    assert three.problems(MODEL, with_mean(EMBEDDING, [2, 3, 4, 5], changed)) == []
    assert three.read("notes.txt").decode() == "one\n2\n3\n4\nfive\n6\n7\n8\nnine\n"
    assert three.read("extra.txt") == b"of c"
    three.git("theta", "fsck")


def test_method_and_options_come_from_the_command_line(three: Repo) -> None:
    words = ["-X", "method=task_arithmetic", "-X", "lambda=0.5"]
    three.git("merge", "--quiet", "-s", "theta", *words, "a", "b", "c")
    base = np.frombuffer(values(EMBEDDING, 1), "<f4").astype(np.float64)
    moved = sum(np.frombuffer(values(EMBEDDING, seed), "<f4") - base for seed in (2, 3, 4, 5))
    found = load(three.read())[EMBEDDING].reshape(-1).numpy()
    np.testing.assert_allclose(found, base + 0.5 * moved, rtol=0, atol=1e-7)


def test_branch_that_contains_head_counts_once(started: Repo) -> None:
    heads = [branch(started, name, {EMBEDDING: seed}) for name, seed in (("a", 2), ("b", 3))]
    started.git("merge", "--quiet", "-s", "theta", "a", "b")
    assert parents(started) == heads, "git leaves out a head that another one contains"
    assert started.problems(MODEL, with_mean(EMBEDDING, [2, 3])) == []


def test_branch_that_is_merged_already_changes_nothing(three: Repo) -> None:
    three.git("merge", "--quiet", "-s", "theta", "-X", "method=ours", "a")
    before = three.git("rev-parse", "HEAD")
    three.git("merge", "--quiet", "-s", "theta", "-X", "method=ours", "a", "b", "c")
    assert parents(three) == [before, three.git("rev-parse", "b"), three.git("rev-parse", "c")]
    changed = {EMBEDDING: 2, ATTENTION[0]: 2, ATTENTION[1]: 3, ATTENTION[2]: 4, MLP[3]: 5}
    assert three.problems(MODEL, model(1, changed)) == []


def test_checkpoint_that_one_branch_changed_is_taken(started: Repo) -> None:
    branch(started, "a", {EMBEDDING: 3})
    branch(started, "b", extra="of b")
    started.write(b"of main", "third.txt")
    started.commit("main goes on")
    started.git("merge", "--quiet", "-s", "theta", "a", "b")
    assert started.problems(MODEL, model(1, {EMBEDDING: 3})) == []


def test_renamed_checkpoint_is_merged_under_its_new_name(three: Repo) -> None:
    three.switch("b")
    three.git("mv", MODEL, "moved.safetensors")
    three.git("commit", "--quiet", "--message", "moved")
    three.switch("main")
    three.git("merge", "--quiet", *OURS, "a", "b", "c")
    assert not (three.path / MODEL).exists()
    changed = {EMBEDDING: 2, ATTENTION[0]: 2, ATTENTION[1]: 3, ATTENTION[2]: 4, MLP[3]: 5}
    assert three.problems("moved.safetensors", model(1, changed)) == []


def test_checkpoint_that_two_branches_add_differently_conflicts(started: Repo) -> None:
    for name, seed in (("a", 2), ("b", 3)):
        started.switch("-b", name, "base")
        started.write_model("new.safetensors", seed)
        started.commit(name)
    started.switch("main")
    stopped = started.run("merge", "-s", "theta", "a", "b", check=False)
    assert stopped.returncode == 1
    assert "new.safetensors: HEAD does not have it; ours is a, theirs is b" in stopped.stderr
    assert started.git("status", "--porcelain") == "AA new.safetensors"
    started.git("theta", "resolve", "--method", "theirs", "new.safetensors")
    started.git("commit", "--quiet", "--no-edit")
    assert started.problems("new.safetensors", model(3)) == []


def test_parameters_in_conflict_wait_for_resolve_and_an_octopus_is_committed(three: Repo) -> None:
    heads = [three.git("rev-parse", name) for name in ("main", "a", "b", "c")]
    done = three.run("merge", "-s", "theta", "-X", "method=conflict", "a", "b", "c", check=False)
    assert done.returncode == 1, done.stderr
    assert three.git("status", "--porcelain").splitlines() == ["A  extra.txt", f"UU {MODEL}", "M  notes.txt"]
    assert {line.split()[2] for line in three.git("ls-files", "-u").splitlines()} == {"1", "2", "3"}
    assert three.read().startswith(b"git-theta manifest 1\n")
    assert three.run("commit", "--no-edit", check=False).returncode != 0
    listed = three.run("theta", "resolve", MODEL, check=False).stdout
    assert f"git theta resolve --method ours|theirs1|theirs2|theirs3|base|average {MODEL}" in listed
    done = three.run("theta", "resolve", "--method", "theirs", MODEL, check=False)
    assert "ours, theirs1, theirs2, theirs3 always work" in done.stderr
    three.git("theta", "resolve", "--method", "theirs2", MODEL)
    three.git("commit", "--quiet", "--no-edit")
    assert parents(three) == heads
    changed = {EMBEDDING: 4, ATTENTION[0]: 2, ATTENTION[1]: 3, ATTENTION[2]: 4, MLP[3]: 5}
    assert three.problems(MODEL, model(1, changed)) == []


def test_parameters_in_conflict_can_be_settled_by_a_method_over_all_sides(three: Repo) -> None:
    three.run("merge", "-s", "theta", "-X", "method=conflict", "a", "b", "c", check=False)
    three.git("theta", "resolve", "--method", "average", MODEL)
    three.git("commit", "--quiet", "--no-edit")
    changed = {ATTENTION[0]: 2, ATTENTION[1]: 3, ATTENTION[2]: 4, MLP[3]: 5}
    assert three.problems(MODEL, with_mean(EMBEDDING, [2, 3, 4, 5], changed)) == []


@pytest.mark.parametrize("words", [["checkout", "--merge", "--"], ["restore", "--ours"]], ids=" ".join)
def test_conflicts_are_not_made_again_from_the_two_sides_that_git_remembers(three: Repo, words: list[str]) -> None:
    three.git("config", "theta.merge.method", "ours")  # for the merge of two sides that git makes
    three.run("merge", "-s", "theta", "-X", "method=conflict", "a", "b", "c", check=False)
    three.run(*words, MODEL, check=False)
    assert not three.read().startswith(b"git-theta manifest 1\n")
    done = three.run("theta", "resolve", "--method", "theirs", MODEL, check=False)
    assert done.returncode == 10
    assert "4 sides are being merged, but git's index holds only two" in done.stderr
    three.git("merge", "--abort")
    assert three.problems(MODEL, model(1, {EMBEDDING: 2, ATTENTION[0]: 2})) == []


def test_aborted_merge_brings_everything_back(three: Repo) -> None:
    three.run("merge", "-s", "theta", "-X", "method=conflict", "a", "b", "c", check=False)
    three.git("merge", "--abort")
    assert three.problems(MODEL, model(1, {EMBEDDING: 2, ATTENTION[0]: 2})) == []
    assert not (three.path / "extra.txt").exists()


def test_text_conflict_of_the_last_branch_is_left_in_the_work_tree(three: Repo) -> None:
    branch(three, "d", {EMBEDDING: 6}, notes=TEXT.replace("1", "eins"))
    done = three.run("merge", *OURS, "a", "b", "d", check=False)
    assert done.returncode == 1
    assert "CONFLICT (content): Merge conflict in notes.txt" in done.stdout
    assert three.git("status", "--porcelain").splitlines() == [f"M  {MODEL}", "UU notes.txt"]
    text = three.read("notes.txt").decode()
    assert "=======\neins\n>>>>>>> d\n" in text
    assert "five" in text
    three.write(b"settled", "notes.txt")
    three.git("commit", "--quiet", "--all", "--no-edit")
    assert parents(three) == [three.git("rev-parse", name) for name in ("HEAD^1", "a", "b", "d")]
    changed = {EMBEDDING: 2, ATTENTION[0]: 2, ATTENTION[1]: 3, ATTENTION[2]: 4}
    assert three.problems(MODEL, model(1, changed)) == []


def test_text_conflict_of_an_earlier_branch_changes_nothing_and_names_it(three: Repo) -> None:
    branch(three, "d", {EMBEDDING: 6}, notes=TEXT.replace("1", "eins"))
    done = three.run("merge", "-s", "theta", "a", "d", "c", check=False)
    assert done.returncode == 2
    assert "d conflicts with the branches before it in notes.txt" in done.stderr
    assert "git merge d" in done.stderr
    assert three.problems(MODEL, model(1, {EMBEDDING: 2, ATTENTION[0]: 2})) == []
    assert not (three.path / ".git" / "MERGE_HEAD").exists()


def test_checkpoint_deleted_by_the_last_branch_keeps_what_the_others_made_of_it(three: Repo) -> None:
    three.switch("-b", "gone", "base")
    three.git("rm", "--quiet", MODEL)
    three.git("commit", "--quiet", "--message", "gone")
    three.switch("main")
    assert three.run("merge", *OURS, "a", "gone", check=False).returncode == 1
    assert f"UD {MODEL}" in three.git("status", "--porcelain")
    three.git("add", MODEL)
    three.git("commit", "--quiet", "--no-edit")
    assert three.problems(MODEL, model(1, {EMBEDDING: 2, ATTENTION[0]: 2, ATTENTION[1]: 3})) == []


@pytest.mark.parametrize("path", [MODEL, "notes.txt"])
def test_changes_in_the_work_tree_are_not_overwritten(three: Repo, path: str) -> None:
    mine = b"mine" if path != MODEL else model(9)
    three.write(mine, path)
    done = three.run("merge", "-s", "theta", "a", "b", "c", check=False)
    assert done.returncode == 2
    assert path in done.stderr
    assert three.read(path) == mine
    assert three.git("status", "--porcelain") == f" M {path}"


def test_changes_in_the_index_are_refused(three: Repo) -> None:
    three.write(b"mine", "staged.txt")
    three.git("add", "staged.txt")
    done = three.run("merge", "-s", "theta", "a", "b", "c", check=False)
    assert done.returncode == 2
    assert "staged.txt" in done.stderr
    assert three.git("status", "--porcelain") == "A  staged.txt"


def test_untracked_file_in_the_way_is_not_overwritten(three: Repo) -> None:
    three.write(b"mine", "extra.txt")
    assert three.run("merge", "-s", "theta", "a", "b", "c", check=False).returncode == 2
    assert three.read("extra.txt") == b"mine"
    assert three.problems(MODEL, model(1, {EMBEDDING: 2, ATTENTION[0]: 2})) == []


def test_branch_without_a_common_ancestor(three: Repo) -> None:
    three.git("checkout", "--quiet", "--orphan", "stranger")
    three.git("rm", "--quiet", "-r", "--force", "notes.txt", MODEL)
    three.write(b"strange", "strange.txt")
    three.commit("stranger")
    three.switch("main")
    done = three.run("merge", "-s", "theta", "--allow-unrelated-histories", "a", "stranger", check=False)
    assert done.returncode == 1, "without an ancestor, values that differ are in conflict"
    assert f"AA {MODEL}" in three.git("status", "--porcelain")


def test_criss_cross_ancestors_are_merged_by_parameter(three: Repo) -> None:
    three.switch("-b", "left", "a")
    three.git("merge", "--quiet", "-s", "theta", "-X", "method=ours", "b")
    three.switch("-b", "right", "b")
    three.git("merge", "--quiet", "-s", "theta", "-X", "method=theirs", "a")
    both = {EMBEDDING: 3, ATTENTION[1]: 3, ATTENTION[2]: 4}
    for number, name in enumerate(("left", "right")):
        three.switch(name)
        three.write_model(seed=1, changed=both | {ATTENTION[1 + number]: 7})
        three.commit("goes on")
    three.switch("-b", "middle", "left~1")
    three.write_model(seed=1, changed=both | {MLP[0]: 8})
    three.commit("middle")
    assert len(three.git("merge-base", "--octopus", "--all", "middle", "left", "right").split()) == 2
    three.git("merge", "--quiet", "-s", "theta", "-X", "method=conflict", "left", "right")
    changed = {EMBEDDING: 3, ATTENTION[1]: 7, ATTENTION[2]: 7, MLP[0]: 8}
    assert three.problems(MODEL, model(1, changed)) == []


def test_commits_that_several_branches_have_in_common_are_reported(three: Repo) -> None:
    three.git("branch", "stale", "base")
    branch(three, "d", {EMBEDDING: 6}, start="a")
    branch(three, "e", {EMBEDDING: 7}, start="a")
    done = three.run("merge", *OURS, "d", "e")
    assert "several of the branches contain 1 commit since the common ancestor" in done.stderr


def test_weights_are_one_for_each_side(three: Repo) -> None:
    words = ["-X", "method=average", "-X"]
    done = three.run("merge", "-s", "theta", *words, "weights=0.5,0.5", "a", "b", check=False)
    assert done.returncode == 2
    assert "2 weights" in done.stderr
    three.git("merge", "--quiet", "-s", "theta", *words, "weights=0,1,1", "a", "b")
    changed = {ATTENTION[0]: 2, ATTENTION[1]: 3, ATTENTION[2]: 4}
    assert three.problems(MODEL, with_mean(EMBEDDING, [3, 4], changed)) == []


@pytest.mark.parametrize("weights", ["weights: [5, 1, 3]", "weights: [5, [1, 1], [3, 3]]", ""])
def test_file_that_only_some_sides_have_is_merged_with_the_weights_of_these(three: Repo, weights: str) -> None:
    for name, value in (("a", 1.0), ("b", 5.0)):
        three.switch(name)
        fisher = {"fisher/0.bias": ("F32", [2], np.full(2, value, "<f4").tobytes())}
        three.write(safetensors(fisher, {"format": "git-theta-stats 1"}), "model.stats.safetensors")
        three.commit("statistics")
    three.switch("main")
    if weights:
        three.write(f"version: 1\ndefaults: {{method: average, {weights}}}\n".encode(), ".thetamerge")
        three.commit("rules")
    three.git("merge", "--quiet", "-s", "theta", *([] if weights else ["-X", "weights=5,1,3"]), "a", "b")
    merged = load((three.path / "model.stats.safetensors").read_bytes())
    assert merged["fisher/0.bias"].tolist() == [4.0, 4.0]
    assert "identical" in three.git("theta", "merge", "--replay")


def test_unknown_method_is_refused_before_anything_changes(three: Repo) -> None:
    done = three.run("merge", "-s", "theta", "-X", "method=avarage", "a", "b", check=False)
    assert done.returncode == 2
    assert "average" in done.stderr
    assert three.problems(MODEL, model(1, {EMBEDDING: 2, ATTENTION[0]: 2})) == []


def test_rules_of_the_repository_hold(three: Repo) -> None:
    three.write(b"version: 1\nrules: [{match: 'embeddings.**', method: theirs3}]\n", ".thetamerge")
    three.commit("rules")
    three.git("merge", "--quiet", "-s", "theta", "a", "b", "c")
    changed = {EMBEDDING: 5, ATTENTION[0]: 2, ATTENTION[1]: 3, ATTENTION[2]: 4, MLP[3]: 5}
    assert three.problems(MODEL, model(1, changed)) == []


def test_raw_checkpoint_on_a_branch_is_refused(three: Repo) -> None:
    blob = three.git("hash-object", "-w", "--no-filters", "--stdin", input="raw")
    three.switch("-b", "raw", "base")
    three.git("update-index", "--cacheinfo", f"100644,{blob},{MODEL}")
    three.git("commit", "--quiet", "--message", "raw")
    three.switch("--force", "main")
    done = three.run("merge", "-s", "theta", "a", "raw", check=False)
    assert done.returncode == 2
    assert f"{MODEL}: version {blob[:12]} is not a manifest" in done.stderr


def test_merge_without_commit_and_squash(three: Repo) -> None:
    changed = {EMBEDDING: 2, ATTENTION[0]: 2, ATTENTION[1]: 3, ATTENTION[2]: 4}
    for option in ("--no-commit", "--squash"):
        three.git("merge", "--quiet", *OURS, option, "a", "b")
        assert three.read() == model(1, changed)
        three.git("reset", "--quiet", "--hard")


def test_merge_in_a_linked_work_tree_and_a_subfolder(three: Repo, tmp_path: Path) -> None:
    three.git("worktree", "add", "--quiet", "-b", "linked", str(tmp_path / "linked"), "main")
    linked = Repo(tmp_path / "linked")
    (linked.path / "folder").mkdir()
    Repo(linked.path / "folder").git("merge", "--quiet", *OURS, "a", "b", "c")
    changed = {EMBEDDING: 2, ATTENTION[0]: 2, ATTENTION[1]: 3, ATTENTION[2]: 4, MLP[3]: 5}
    assert linked.problems(MODEL, model(1, changed)) == []


@pytest.fixture
def maintainer(started: Repo, shared: Repo, tmp_path: Path) -> Repo:
    """Return a clone of ``shared``; ``started`` is where the contributors work."""
    started.git("push", "--quiet", "origin", "main")
    started.git("clone", "--quiet", str(shared.path), str(tmp_path / "maintainer"))
    return Repo(tmp_path / "maintainer")


def contribute(repo: Repo, number: int, seeds: list[int]) -> None:
    """Push a branch for each seed, on which all float parameters are trained to values of that seed."""
    repo.git("fetch", "--quiet", "origin")
    for seed in seeds:
        repo.switch("-b", f"round-{number}/{seed}", "origin/main")
        repo.write_model(seed=seed, changed={"position_ids": 1})
        repo.commit(f"train with {seed}")
    repo.git("push", "--quiet", "origin", *(f"round-{number}/{seed}" for seed in seeds))


def cold_fusion(repo: Repo, *words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([COLD_FUSION, *words], cwd=repo.path, capture_output=True, text=True, check=False)


def test_cold_fusion_of_eight_contributors_takes_one_command_and_one_commit_a_round(
    started: Repo, maintainer: Repo
) -> None:
    for number, contributors in ((1, 8), (2, 2)):
        seeds = [10 * number + contributor for contributor in range(contributors)]
        contribute(started, number, seeds)
        before = maintainer.git("rev-parse", "HEAD")
        done = cold_fusion(maintainer, str(number))
        assert done.returncode == 0, done.stderr
        heads = [started.git("rev-parse", f"round-{number}/{seed}") for seed in seeds]
        assert parents(maintainer) == [before, *heads]
        assert maintainer.git("rev-parse", "HEAD") == started.git("ls-remote", "origin", "main").split()[0]
        sides = [load(model(seed)) for seed in seeds]
        merged = load(maintainer.read())
        for name in (EMBEDDING, *ATTENTION, *MLP):
            drawn = torch.stack([side[name] for side in sides]).double().sort(dim=0).values
            mean = (sum(drawn) / len(seeds)).float().to(merged[name].dtype)
            assert torch.equal(merged[name], mean), name
        assert maintainer.problems(MODEL, maintainer.read()) == []
    assert maintainer.git("rev-list", "--count", "--first-parent", f"{started.git('rev-parse', 'base')}..HEAD") == "2"


def test_cold_fusion_refuses_a_branch_that_did_not_start_from_main(started: Repo, maintainer: Repo) -> None:
    contribute(started, 1, [2])
    maintainer.write(b"more", "notes.txt")
    maintainer.commit("main goes on")
    done = cold_fusion(maintainer, "1")
    assert done.returncode == 1
    assert "origin/round-1/2" in done.stderr
    assert maintainer.problems(MODEL, model(1)) == []


def test_cold_fusion_of_a_round_without_branches_says_so(maintainer: Repo) -> None:
    done = cold_fusion(maintainer, "7")
    assert done.returncode == 1
    assert "round-7" in done.stderr


def _added_by_two(repo: Repo) -> None:
    _started(repo)
    for seed, name in ((3, "a"), (4, "b")):
        repo.switch("-b", name, "base")
        repo.write(safetensors({EMBEDDING: tensors(seed)[EMBEDDING]}, META), "more.safetensors")
        repo.commit(name)
        repo.switch("main")


@pytest.mark.parametrize(("method", "seed"), [("theirs1", 3), ("theirs2", 4), ("ours", None), ("theirs", None)])
def test_a_side_has_the_same_name_if_the_current_branch_lacks_the_file(
    with_history: WithHistory, method: str, seed: int | None
) -> None:
    """We have no value of it to take, and of three sides none is the only other one."""
    repo = with_history(_added_by_two)

    done = repo.run("merge", "--quiet", "-s", "theta", "-X", f"method={method}", "a", "b", check=False)

    assert done.returncode == (0 if seed else 1), done.stderr
    if seed:
        assert repo.read("more.safetensors").endswith(tensors(seed)[EMBEDDING][2])
    else:
        assert "more.safetensors" in repo.git("diff", "--name-only", "--diff-filter=U")
