"""A checkpoint that one branch renamed and retrained, and another one trained: its parameters show the rename."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import numpy as np
import pytest
from helpers import MODEL, Repo, safetensors

if TYPE_CHECKING:
    from collections.abc import Sequence

NEW = "renamed.safetensors"
NAMES = ("embed.weight", "mlp.weight", "head.weight")
COMMAND = f"git theta resolve --renamed-to {NEW} {MODEL}"


def content(value: float, names: Sequence[str] = NAMES) -> bytes:
    return safetensors({name: ("F32", (2, 2), np.full(4, value, "<f4").tobytes()) for name in names})


def value_of(repo: Repo, path: str = NEW) -> set[float]:
    return {float(number) for number in np.frombuffer(repo.read(path)[-48:], "<f4")}


@pytest.fixture
def renamed(repo: Repo) -> Repo:
    """A base of ones; ``main`` has threes, and ``side`` has sevens under a new name, beside another new checkpoint."""
    repo.write(content(1))
    repo.commit("base")
    repo.switch("-b", "side")
    repo.git("mv", MODEL, NEW)
    repo.write(content(7), NEW)
    repo.write(content(7, ("other.weight", "mlp.weight", "more.weight")), "other.safetensors")
    repo.commit("theirs")
    repo.switch("main")
    repo.write(content(3))
    repo.commit("ours")
    return repo


@pytest.mark.parametrize(
    ("command", "expected"),
    [
        (["merge", "side"], 5.0),
        (["cherry-pick", "side"], 9.0),
        (["rebase", "side"], 9.0),
        (["merge", "-s", "theta", "side"], 5.0),
    ],
    ids=["merge", "cherry-pick", "rebase", "strategy"],
)
def test_one_command_merges_both_under_the_new_name(renamed: Repo, command: list[str], expected: float) -> None:
    stopped = renamed.run(*command, check=False)
    assert stopped.returncode == 1
    refused = renamed.run("theta", "resolve", MODEL, check=False)
    assert (refused.returncode, f"hint: {COMMAND}" in refused.stderr) == (2, True)
    done = renamed.run(*COMMAND.split()[1:])
    assert done.stdout.splitlines() == [f"resolved {NEW}", f"removed {MODEL}"]
    assert value_of(renamed) == {expected}
    assert not (renamed.path / MODEL).exists()
    renamed.git(
        "-c", "core.editor=true", *(["commit", "--no-edit"] if "merge" in command else [command[0], "--continue"])
    )
    assert renamed.problems(NEW, renamed.read(NEW)) == []


def test_the_merge_that_stops_names_the_command(renamed: Repo) -> None:
    assert f"hint: {COMMAND}" in renamed.run("merge", "side", check=False).stderr
    renamed.git("merge", "--abort")
    renamed.switch("side")  # the renamed file is ours now, and git writes theirs
    assert f"hint: {COMMAND}" in renamed.run("merge", "main", check=False).stderr


def test_a_command_that_writes_files_while_the_merge_is_stopped_does_not_repeat_it(renamed: Repo) -> None:
    renamed.run("merge", "side", check=False)
    (renamed.path / "other.safetensors").unlink()
    assert "renamed" not in renamed.run("checkout", "side", "--", "other.safetensors").stderr
    assert (renamed.path / "other.safetensors").exists()


def test_a_stash_that_renamed_a_checkpoint_names_the_command(renamed: Repo) -> None:
    renamed.git("mv", MODEL, NEW)
    renamed.write(content(7), NEW)
    renamed.git("add", NEW)
    renamed.git("stash")
    renamed.write(content(5))
    renamed.commit("more")
    popped = renamed.run("stash", "pop", check=False)
    assert popped.returncode == 1
    assert f"hint: {COMMAND}" in popped.stderr
    renamed.git(*COMMAND.split()[1:])
    assert value_of(renamed) == {9.0}


def test_the_merge_is_recorded_and_can_be_replayed(renamed: Repo) -> None:
    renamed.run("merge", "side", check=False)
    renamed.git("-c", "theta.merge.method=task_arithmetic", *COMMAND.split()[1:])
    renamed.git("commit", "--quiet", "--no-edit")
    assert value_of(renamed) == {9.0}
    assert renamed.run("theta", "merge", "--replay", "HEAD").returncode == 0


def test_conflicts_of_the_renamed_checkpoint_are_resolved_as_others(renamed: Repo) -> None:
    renamed.run("merge", "side", check=False)
    done = renamed.run("-c", "theta.merge.method=conflict", *COMMAND.split()[1:], check=False)
    assert (done.returncode, "3 parameters in conflict" in done.stdout) == (1, True)
    renamed.git("theta", "resolve", "--method", "theirs", NEW)
    assert value_of(renamed) == {7.0}
    assert renamed.git("status", "--porcelain") == f"D  {MODEL}\nA  other.safetensors\nA  {NEW}"


def test_all_shards_of_a_renamed_directory_are_merged(repo: Repo) -> None:
    def write(folder: str, value: float) -> None:
        for number in (1, 2):
            repo.write(
                content(value, [f"{number}.{name}" for name in NAMES]),
                f"{folder}/model-{number:05}-of-00002.safetensors",
            )
        index = {f"{n}.{name}": f"model-{n:05}-of-00002.safetensors" for n in (1, 2) for name in NAMES}
        repo.write(json.dumps({"metadata": {}, "weight_map": index}).encode(), f"{folder}/model.safetensors.index.json")

    write("old", 1)
    repo.commit("base")
    repo.switch("-b", "side")
    repo.git("mv", "old", "new")
    write("new", 7)
    repo.commit("theirs")
    repo.switch("main")
    write("old", 3)
    repo.commit("ours")
    repo.run("merge", "side", check=False)
    repo.git("theta", "resolve", "--renamed-to", "new", "old")
    for number in (1, 2):
        assert value_of(repo, f"new/model-{number:05}-of-00002.safetensors") == {5.0}
    assert not (repo.path / "old").exists()


def test_a_deleted_checkpoint_is_not_said_to_be_renamed(renamed: Repo) -> None:
    renamed.switch("side")
    renamed.git("rm", "--quiet", NEW)
    renamed.git("commit", "--quiet", "--amend", "--no-edit")
    renamed.switch("main")
    stopped = renamed.run("merge", "side", check=False)
    assert (stopped.returncode, "--renamed-to" in stopped.stderr) == (1, False)
    assert f"git rm {MODEL} deletes it" in renamed.run("theta", "resolve", MODEL, check=False).stderr


def test_a_checkpoint_that_was_divided_into_shards_is_not_said_to_be_renamed(renamed: Repo) -> None:
    renamed.switch("side")
    renamed.git("rm", "--quiet", NEW)
    renamed.write(content(7, NAMES[:2]), "model-00001-of-00002.safetensors")
    renamed.write(content(7, NAMES[2:]), "model-00002-of-00002.safetensors")
    renamed.commit("divided")
    renamed.switch("main")
    stopped = renamed.run("merge", "side", check=False)
    assert (stopped.returncode, "--renamed-to" in stopped.stderr) == (1, False)


@pytest.mark.parametrize("path", [MODEL, NEW])
def test_a_file_that_was_changed_since_the_merge_is_not_overwritten(renamed: Repo, path: str) -> None:
    renamed.run("merge", "side", check=False)
    renamed.write(content(11), path)
    done = renamed.run(*COMMAND.split()[1:], check=False)
    assert (done.returncode != 0, f"{path} was changed since the merge" in done.stderr) == (True, True)
    assert value_of(renamed, path) == {11.0}


def test_a_path_without_such_a_conflict_is_refused(renamed: Repo) -> None:
    done = renamed.run(*COMMAND.split()[1:], check=False)
    assert (done.returncode, f"{MODEL} has no conflict of a side" in done.stderr) == (2, True)
