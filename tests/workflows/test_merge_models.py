"""Models of several files, which git merges one by one."""

from __future__ import annotations

import json
import os
from itertools import pairwise
from typing import TYPE_CHECKING

import pytest
from helpers import MODEL, SPECS, Repo, WithHistory, safetensors, tensors

from git_theta_ext.model.manifest import Manifest

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from git_theta_ext.model.manifest import Parameter

FOLDER = "run"
INDEX = f"{FOLDER}/model.safetensors.index.json"
NAMES = sorted(SPECS)
TWO, OTHER_TWO, THREE = (5,), (9,), (4, 10)
OURS = ("-c", "theta.merge.method=ours")
"""Of a merge that decides and computes nothing."""


def sharded(changed: Mapping[str, int], cuts: Sequence[int], gone: Sequence[str] = ()) -> dict[str, bytes]:
    """Return the files of the small model with some tensors of other seeds, divided where the sorted names are cut."""
    content = {name: tensor for name, tensor in tensors(1, changed).items() if name not in gone}
    if not cuts:
        return {f"{FOLDER}/model.safetensors": safetensors(content, {"format": "pt"})}
    edges = [0, *cuts, len(NAMES)]
    files, weight_map = {}, {}
    for number, (start, end) in enumerate(pairwise(edges), 1):
        name = f"model-{number:05}-of-{len(cuts) + 1:05}.safetensors"
        part = {tensor: content[tensor] for tensor in NAMES[start:end] if tensor in content}
        files[f"{FOLDER}/{name}"] = safetensors(part, {"format": "pt"})
        weight_map |= dict.fromkeys(part, name)
    total = sum(len(data) for _, _, data in content.values())
    index = {"metadata": {"total_size": total}, "weight_map": weight_map}
    return files | {INDEX: (json.dumps(index, indent=2, sort_keys=True) + "\n").encode()}


def write(repo: Repo, files: Mapping[str, bytes], message: str) -> None:
    """Commit the files of a model instead of those that there are."""
    for path in (repo.path / FOLDER).glob("*"):
        if f"{FOLDER}/{path.name}" not in files:
            path.unlink()
    for path, data in files.items():
        repo.write(data, path)
    repo.commit(message)


def branches(repo: Repo, base: dict[str, bytes], ours: dict[str, bytes], theirs: dict[str, bytes]) -> None:
    """Make the branches ``main`` and ``side``, on which the model has these files."""
    write(repo, base, "base")
    repo.switch("-b", "side")
    write(repo, theirs, "theirs")
    repo.switch("main")
    write(repo, ours, "ours")


def problems(repo: Repo, files: Mapping[str, bytes]) -> list[str]:
    """Return what is wrong with the files of a model that a command wrote."""
    found = {f"{FOLDER}/{path.name}" for path in (repo.path / FOLDER).glob("*")}
    wrong = [f"{path} is there or missing" for path in found ^ set(files)]
    return wrong + [problem for path, data in files.items() if path in found for problem in repo.problems(path, data)]


def parameters(repo: Repo, path: str, rev: str = "HEAD") -> Mapping[str, Parameter]:
    """Return the parameters of a checkpoint in a commit."""
    return Manifest.parse(repo.run("cat-file", "blob", f"{rev}:{path}").stdout.encode()).parameters


EVERY = dict.fromkeys(NAMES[:-1], 3)
"""All tensors but the integers, trained."""


def _moved(repo: Repo) -> None:
    branches(repo, sharded({}, TWO), sharded({NAMES[6]: 2}, OTHER_TWO), sharded(EVERY, TWO))


@pytest.mark.parametrize(("start", "words"), [("main", ["merge", "side"]), ("side", ["rebase", "main"])], ids=str)
def test_parameters_that_one_side_moves_get_what_the_other_side_trains(
    with_history: WithHistory, start: str, words: list[str]
) -> None:
    repo = with_history(_moved)
    repo.switch(start)
    method = "ours" if words[0] == "merge" else "theirs"
    done = repo.run("-c", f"theta.merge.method={method}", *words)
    merged = sharded(EVERY | {NAMES[6]: 2 if words[0] == "merge" else 3}, OTHER_TWO)
    assert problems(repo, merged) == []
    assert done.stderr.count("run/model.safetensors: ") == 1, "the model is merged once"


@pytest.mark.parametrize("options", [(), ("--strategy=theta",)], ids=["", "strategy"])
def test_one_call_of_the_driver_answers_the_others(with_history: WithHistory, options: tuple[str, ...]) -> None:
    repo = with_history(lambda repo: branches(repo, *(sharded(dict.fromkeys(NAMES, n), THREE) for n in (1, 2, 3))))
    environment = os.environ | {"PYTHONPROFILEIMPORTTIME": "1"}
    done = repo.run(*OURS, "merge", *options, "side", env=environment)
    modules = [line.rpartition(" ")[2] for line in done.stderr.splitlines()]
    assert modules.count("git_theta_ext.operations.merge.driver") == 1
    assert problems(repo, sharded(dict.fromkeys(NAMES, 2), THREE)) == []
    assert not any(path.is_file() for path in (repo.path / ".git/theta/merging/answers").rglob("*"))


def test_shards_and_one_file_are_merged_to_the_same_bits(with_history: WithHistory) -> None:
    def both(seed: int) -> dict[str, bytes]:
        changed = dict.fromkeys(NAMES[:-1], seed)
        return sharded(changed, THREE) | {"one/model.safetensors": sharded(changed, ())[f"{FOLDER}/{MODEL}"]}

    repo = with_history(lambda repo: branches(repo, *map(both, (1, 2, 3))))
    repo.git("-c", "theta.merge.method=ties", "merge", "side")
    one, *shards = ("one/model.safetensors", *(path for path in sharded({}, THREE) if path != INDEX))
    merged = parameters(repo, one)
    assert merged == {name: value for path in shards for name, value in parameters(repo, path).items()}
    before = parameters(repo, one, "HEAD^")
    assert [name for name in NAMES if merged[name] == before[name]] == NAMES[-1:]


def test_merge_of_a_model_is_recorded_and_repeated(with_history: WithHistory) -> None:
    repo = with_history(_moved)
    repo.run("-c", "theta.merge.method=ties", "merge", "side")
    assert "run/model.safetensors: 1 parameter computed again" in repo.git("theta", "merge", "--replay")
    repo.git("commit", "--quiet", "--amend", "--no-edit")
    assert NAMES[6] in repo.git("theta", "merge", "--report")
    repo.write(sharded({}, ())[f"{FOLDER}/model.safetensors"], f"{FOLDER}/model-00001-of-00002.safetensors")
    repo.git("commit", "--quiet", "--amend", "--no-edit", "--all")
    assert "does not record" in repo.run("theta", "merge", "--replay", check=False).stderr


def _apart(repo: Repo) -> None:
    """Let ``side`` train only a tensor that ``main`` has moved into a file that ``side`` did not change."""
    branches(repo, sharded({}, TWO), sharded({}, OTHER_TWO), sharded({NAMES[6]: 3}, TWO))


def _reshard(repo: Repo) -> None:
    branches(repo, sharded({}, TWO), sharded({NAMES[0]: 2}, THREE), sharded({NAMES[6]: 3, NAMES[11]: 3}, TWO))


def _divided(repo: Repo) -> None:
    branches(repo, sharded({}, ()), sharded({NAMES[0]: 2}, ()), sharded({NAMES[6]: 3}, THREE))


CASES = {
    "moved": (_apart, {NAMES[6]: 3}, OTHER_TWO),
    "more shards": (_reshard, {NAMES[0]: 2, NAMES[6]: 3, NAMES[11]: 3}, THREE),
    "one file in shards": (_divided, {NAMES[0]: 2, NAMES[6]: 3}, THREE),
}


@pytest.mark.parametrize("case", CASES)
def test_what_git_cannot_merge_file_by_file_is_merged_by_one_command(with_history: WithHistory, case: str) -> None:
    make, changed, cuts = CASES[case]
    repo = with_history(make)
    done = repo.run("merge", "side", check=False)
    assert done.returncode == 1
    assert f"git theta resolve {FOLDER}" in done.stderr
    repo.git("theta", "resolve", FOLDER)
    repo.git("commit", "--quiet", "--no-edit")
    assert problems(repo, sharded(changed, cuts)) == []


@pytest.mark.parametrize("case", ["more shards", "one file in shards"])
def test_strategy_merges_in_one_command(with_history: WithHistory, case: str) -> None:
    make, changed, cuts = CASES[case]
    repo = with_history(make)
    repo.git("-c", "pull.twohead=theta", "merge", "side")
    assert problems(repo, sharded(changed, cuts)) == []
    assert repo.git("log", "-1", "--format=%P").split() == [repo.git("rev-parse", rev) for rev in ("HEAD^1", "side")]


def test_conflicts_of_a_model_are_resolved_after_its_files_are_written(with_history: WithHistory) -> None:
    def make(repo: Repo) -> None:
        branches(repo, sharded({}, TWO), sharded({NAMES[0]: 2}, THREE), sharded({NAMES[0]: 3, NAMES[6]: 3}, TWO))

    repo = with_history(make)
    repo.run("-c", "theta.merge.method=conflict", "merge", "side", check=False)
    listed = repo.run("theta", "resolve", FOLDER, check=False)
    assert listed.returncode == 1
    assert f"{NAMES[0]}  (changed by both)" in listed.stdout
    repo.git("theta", "resolve", "--method", "theirs", FOLDER)
    repo.git("commit", "--quiet", "--no-edit")
    assert problems(repo, sharded({NAMES[0]: 3, NAMES[6]: 3}, THREE)) == []


def test_change_that_is_picked_follows_the_parameters_into_other_files(with_history: WithHistory) -> None:
    repo = with_history(_reshard)
    done = repo.run("cherry-pick", "side", check=False)
    assert f"git theta resolve {FOLDER}" in done.stderr
    repo.git("theta", "resolve", FOLDER)
    repo.git("cherry-pick", "--continue")
    assert problems(repo, sharded(CASES["more shards"][1], THREE)) == []


def test_stash_of_a_divided_model_is_applied_as_a_commit_with_the_same_change_is(with_history: WithHistory) -> None:
    theirs = sharded({NAMES[0]: 3, NAMES[6]: 3}, THREE)

    def make(repo: Repo) -> None:
        branches(repo, sharded({}, ()), sharded({NAMES[0]: 2}, ()), theirs)

    repo = with_history(make)
    assert repo.run("cherry-pick", "side", check=False).returncode == 1
    repo.git("theta", "resolve", FOLDER)
    picked = {path: repo.read(path) for path in theirs}
    repo.git("cherry-pick", "--abort")
    repo.git("checkout", "--quiet", "--detach", "side")
    repo.git("reset", "--quiet", "--soft", "HEAD~1")
    repo.git("stash")
    repo.git("checkout", "--quiet", "main")
    assert repo.run("stash", "pop", check=False).returncode == 1
    repo.git("theta", "resolve", FOLDER)
    assert {path: repo.read(path) for path in theirs} == picked


def test_file_that_was_changed_since_the_merge_is_not_overwritten(with_history: WithHistory) -> None:
    repo = with_history(_apart)
    repo.run("merge", "side", check=False)
    index = repo.read(INDEX)
    repo.write(index + b" ", INDEX)
    done = repo.run("theta", "resolve", FOLDER, check=False)
    assert "was changed since the merge" in done.stderr
    assert repo.read(INDEX) == index + b" "


def test_branches_that_are_merged_at_once(with_history: WithHistory) -> None:
    def make(repo: Repo) -> None:
        _reshard(repo)
        repo.switch("-b", "third", "main~1")
        write(repo, sharded({NAMES[3]: 4}, TWO), "third")
        repo.switch("main")

    repo = with_history(make)
    planned = repo.git("theta", "merge", "--plan", "side", "third")
    assert planned.startswith(f"{FOLDER}/model.safetensors")
    repo.git("merge", "-s", "theta", "side", "third")
    assert problems(repo, sharded(CASES["more shards"][1] | {NAMES[3]: 4}, THREE)) == []
    assert len(repo.git("log", "-1", "--format=%P").split()) == 3


def _both_add(repo: Repo) -> None:
    """Let each branch add a tensor to another shard, so that both change the same lines of the index."""
    repo.git("theta", "track", "*.safetensors")

    def added(number: int, name: str) -> dict[str, bytes]:
        files = sharded({}, TWO)
        path = f"{FOLDER}/model-{number:05}-of-00002.safetensors"
        content = {key: value for key, value in tensors(1).items() if (key in NAMES[:5]) == (number == 1)}
        files[path] = safetensors(content | {name: ("F32", (2,), bytes(8))}, {"format": "pt"})
        index = json.loads(files[INDEX])
        index["metadata"]["total_size"] += 8
        index["weight_map"][name] = path.removeprefix(f"{FOLDER}/")
        return files | {INDEX: (json.dumps(index, indent=2) + "\n").encode()}

    branches(repo, sharded({}, TWO), added(1, "z.ours"), added(2, "z.theirs"))


@pytest.mark.parametrize("words", [["merge", "side"], ["cherry-pick", "side"]], ids=lambda words: words[0])
def test_index_that_both_branches_changed_follows_from_the_shards(with_history: WithHistory, words: list[str]) -> None:
    repo = with_history(_both_add)
    repo.git(*words)
    index = json.loads(repo.read(INDEX))
    assert index["weight_map"].keys() == {*NAMES, "z.ours", "z.theirs"}
    assert index["weight_map"]["z.theirs"] == "model-00002-of-00002.safetensors"
    before = json.loads(repo.git("show", f"HEAD~1:{INDEX}"))["metadata"]["total_size"]
    assert index["metadata"]["total_size"] == before + 8


BOTH = {NAMES[2]: 2, NAMES[7]: 2}
"""Tensors of different shards, which both branches change."""


def test_resolution_of_a_model_counts_all_its_files(with_history: WithHistory) -> None:
    def both(changed: Mapping[str, int]) -> dict[str, bytes]:
        """Return the model in two shards, and the same in one file of another directory."""
        one = sharded(changed, ())[f"{FOLDER}/model.safetensors"]
        return sharded(changed, TWO) | {"one/model.safetensors": one}

    def make(repo: Repo) -> None:
        branches(repo, both({}), both(BOTH), both({NAMES[2]: 3, NAMES[7]: 9}))

    repo = with_history(make)
    repo.run("-c", "theta.merge.method=conflict", "merge", "side", check=False)
    listed = repo.run("theta", "resolve", FOLDER, check=False).stdout
    assert listed.startswith(f"{FOLDER}/model.safetensors:\n2 parameters in conflict:\n")
    assert listed.endswith(f"git theta resolve --method ours|theirs|base|average {FOLDER}\n")
    repo.git("theta", "resolve", "--method", "ties", "--option", "density=0.5")
    repo.git("commit", "--quiet", "--no-edit")
    assert repo.git("theta", "merge", "--replay").count("2 parameters computed again, identical") == 2
    assert repo.git("theta", "diff", f"HEAD:{FOLDER}", "HEAD:one").splitlines()[1].startswith("14 unchanged")


@pytest.mark.parametrize("command", [("merge",), ("merge", "-s", "theta")])
@pytest.mark.parametrize("renamer", ["main", "side"])
def test_directory_that_one_side_renamed_is_merged_as_one_model(
    with_history: WithHistory, command: tuple[str, ...], renamer: str
) -> None:
    def make(repo: Repo) -> None:
        branches(repo, sharded({}, TWO), sharded({NAMES[2]: 2}, TWO), sharded({NAMES[2]: 3, NAMES[7]: 3}, TWO))
        repo.switch(renamer)
        repo.git("mv", FOLDER, "moved")
        repo.git("commit", "--quiet", "-m", "rename")
        repo.switch("main")

    repo = with_history(make)
    repo.git("-c", "theta.merge.method=ties", *command, "--quiet", "--no-edit", "side")
    assert repo.git("status", "--porcelain") == ""
    assert repo.git("ls-files", FOLDER) == ""
    assert "moved/model.safetensors" in repo.git("log", "-1", "--format=%(trailers:key=Theta-Merge)")
    assert "1 parameter computed again, identical" in repo.git("theta", "merge", "--replay")
    places = json.loads(repo.read(INDEX.replace(FOLDER, "moved")))["weight_map"]
    for name, file in places.items():
        assert name in parameters(repo, f"moved/{file}")


def test_index_lists_what_a_resolution_keeps_and_adds(with_history: WithHistory) -> None:
    """Ours deletes two tensors that theirs trains, and theirs one that ours trains."""
    ours_lacks, theirs_lacks = (NAMES[0], NAMES[6]), (NAMES[2],)

    def without(changed: Mapping[str, int], gone: Sequence[str]) -> dict[str, bytes]:
        return sharded(changed, TWO, gone)

    def make(repo: Repo) -> None:
        ours, theirs = without({NAMES[2]: 2}, ours_lacks), without({NAMES[0]: 3, NAMES[6]: 3}, theirs_lacks)
        branches(repo, sharded({}, TWO), ours, theirs)

    repo = with_history(make)
    repo.run("-c", "theta.merge.method=conflict", "merge", "side", check=False)
    repo.git("theta", "resolve", "--method", "theirs", FOLDER)
    repo.git("commit", "--quiet", "--no-edit")
    wanted = without({NAMES[0]: 3, NAMES[6]: 3}, theirs_lacks)
    assert repo.read(INDEX) == wanted.pop(INDEX)
    for path, data in wanted.items():  # the order in a new layout may differ
        assert set(parameters(repo, path)) == {name for name in NAMES if f'"{name}"'.encode() in data}
    assert repo.git("status", "--porcelain") == ""
    assert "identical" in repo.git("theta", "merge", "--replay")


def test_some_conflicts_of_a_model_are_resolved_one_after_the_other(with_history: WithHistory) -> None:
    def make(repo: Repo) -> None:
        branches(repo, sharded({}, TWO), sharded(BOTH, TWO), sharded({NAMES[2]: 3, NAMES[7]: 9}, TWO))

    repo = with_history(make)
    repo.run("-c", "theta.merge.method=conflict", "merge", "side", check=False)
    first = f"{FOLDER}/model-00001-of-00002.safetensors"
    assert repo.git("theta", "resolve", "--method", "theirs", first) == f"resolved {first}"
    repo.run("theta", "mergetool", FOLDER, input="ours\n")
    repo.git("commit", "--quiet", "--no-edit")
    assert problems(repo, sharded(BOTH | {NAMES[2]: 3}, TWO)) == []
    assert "identical" in repo.git("theta", "merge", "--replay")
