"""ONNX models with their tensors in another file: compared, merged and loaded by the names that the model has."""

from __future__ import annotations

import json
import struct
from typing import TYPE_CHECKING

import pytest

import git_theta_ext
from git_theta_ext.errors import MissingError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from helpers import Repo, WithHistory

NAMES = [f"layer.{n}.weight" for n in range(6)]
COUNT = 64 * 1024
NBYTES, STEP = 4 * COUNT, 4 * COUNT + 4096
DATA = "m/model.onnx.data"


def _field(number: int, value: bytes | int) -> bytes:
    def varint(left: int) -> bytes:
        return bytes([left]) if left < 128 else bytes([left & 127 | 128]) + varint(left >> 7)

    if isinstance(value, int):
        return varint(number << 3) + varint(value)
    return varint(number << 3 | 2) + varint(len(value)) + value


def _tensor(name: str, place: int) -> bytes:
    entries = {"location": "model.onnx.data", "offset": str(place), "length": str(NBYTES)}
    said = b"".join(_field(13, _field(1, k.encode()) + _field(2, v.encode())) for k, v in entries.items())
    return _field(1, 64) + _field(1, 1024) + _field(2, 1) + _field(8, name.encode()) + said + _field(14, 1)


def _graph(*names: str) -> bytes:
    tensors = b"".join(_field(5, _tensor(name, number * STEP)) for number, name in enumerate(names))
    return _field(1, 10) + _field(7, _field(2, b"main") + tensors)


def _values(values: Mapping[int, float]) -> bytes:
    """Return a file in which all values of a tensor are one number, its own if it is not given."""
    return b"".join(struct.pack("<f", values.get(n, n + 1.0)) * COUNT + bytes(STEP - NBYTES) for n in range(len(NAMES)))


def _save(repo: Repo, message: str, values: Mapping[int, float]) -> None:
    repo.write(_values(values), DATA)
    repo.commit(message)


def _history(repo: Repo) -> None:
    repo.git("init", "--quiet")
    repo.git("theta", "track", "--preset", "onnx")
    repo.write(_graph(*NAMES), "m/model.onnx")
    _save(repo, "first", {})
    repo.git("branch", "side")
    _save(repo, "ours", {1: 20.0, 3: 40.0})
    repo.switch("side")
    _save(repo, "theirs", {1: 30.0, 4: 50.0})
    repo.switch("main")


@pytest.fixture
def exported(with_history: WithHistory) -> Repo:
    return with_history(_history)


def test_branches_are_merged_by_tensor_and_the_merge_is_repeated(exported):
    exported.git("merge", "side")
    assert exported.problems(DATA, _values({1: 25.0, 3: 40.0, 4: 50.0})) == []
    assert exported.git("theta", "ls-files", "HEAD").count("opaque") == 1
    replayed = exported.git("theta", "merge", "--replay", "HEAD")
    assert "1 parameter computed again, identical" in replayed
    diff = exported.git("theta", "diff", "HEAD^1", "HEAD")
    assert diff.startswith("diff --theta m/model.onnx\n")
    assert "2 modified, 4 unchanged" in diff
    assert "chunk" not in diff


def test_a_strategy_merges_by_tensor(exported):
    exported.git("merge", "-s", "theta", "-X", "method=theirs", "side")
    assert exported.read(DATA) == _values({1: 30.0, 3: 40.0, 4: 50.0})
    assert exported.git("status", "--porcelain") == ""


def test_conflicts_are_resolved_by_tensor(exported):
    exported.git("config", "theta.merge.method", "conflict")
    assert exported.run("merge", "side", check=False).returncode == 1
    assert NAMES[1] in exported.run("theta", "resolve", check=False).stdout
    exported.git("theta", "resolve", "--method", "theirs")
    exported.git("commit", "--quiet", "--message", "merge")
    assert exported.problems(DATA, _values({1: 30.0, 3: 40.0, 4: 50.0})) == []
    assert "identical" in exported.git("theta", "merge", "--replay", "HEAD")


def test_a_file_that_was_exported_anew_is_compared_before_it_is_staged(exported):
    exported.write(_values({1: 20.0, 3: 40.0, 5: 7.0}), DATA)
    diff = exported.git("theta", "diff")
    assert "diff --theta m/model.onnx\n" in diff
    assert NAMES[5] in diff
    assert "chunk" not in diff


@pytest.mark.parametrize("words", [["HEAD~", "HEAD"], ["HEAD~..HEAD", "--", DATA], ["--cached", "HEAD~", "--", "m"]])
def test_git_diff_compares_by_tensor(exported, words):
    diff = exported.git("diff", *words)
    assert f"diff --theta {DATA}\n2 modified, 4 unchanged" in diff
    assert "layer.{1,3}.weight  F32 [64,1024]  2 modified  rel. change" in diff
    assert "chunk" not in diff


def test_git_diff_reads_the_work_tree_and_the_model_that_changed_with_it(exported):
    exported.write(_graph(*NAMES[::-1]), "m/model.onnx")
    exported.write(_values({0: 6.0, 1: 5.0, 2: 40.0, 3: 3.0, 4: 20.0, 5: 9.0}), DATA)
    diff = exported.git("diff", DATA)
    assert f"diff --theta {DATA}\n1 modified, 5 unchanged" in diff
    assert NAMES[0] in diff
    exported.git("add", "m")
    exported.git("commit", "--quiet", "--message", "another order")
    assert exported.git("diff", "HEAD~", "--", DATA) == diff


def test_another_command_compares_by_chunk(exported):
    assert "chunk" in exported.git("show", "--ext-diff", "HEAD", "--", DATA)


def test_other_places_are_a_conflict_of_the_file(exported):
    exported.switch("side")
    exported.write(_graph(*NAMES[::-1]), "m/model.onnx")
    exported.commit("another order")
    exported.switch("main")
    assert exported.run("merge", "side", check=False).returncode == 1
    assert "model.onnx.data" in exported.git("diff", "--name-only", "--diff-filter=U")


def test_the_tensors_are_loaded_by_name(exported):
    for revision in ("main:m/model.onnx", "main:m/"):
        with git_theta_ext.open(revision, repository=exported.path) as model:
            assert set(model) == set(NAMES)
            assert model.specs[NAMES[0]].shape == (64, 1024)
            assert len(model) == len(NAMES)
            assert float(model[NAMES[3]][5, 5]) == 40.0
    loaded = git_theta_ext.load("side:m/model.onnx", repository=exported.path)
    assert {name: float(value.mean()) for name, value in loaded.items()}[NAMES[1]] == 30.0


def test_the_tensors_are_listed_and_shown_by_name(exported):
    for command in (("show", "main:m/model.onnx"), ("show", f"main:{DATA}"), ("ls-files", "--params", "main")):
        printed = exported.git("theta", *command)
        assert printed.count("in model.onnx.data") == (6 if command[0] == "show" else 12)
        assert "6 parameters, 1.57 MB" in printed
        assert all(f"  {name}  F32 [64,1024]" in printed for name in NAMES)
        assert "chunk" not in printed
    shown = json.loads(exported.git("theta", "show", "--json", "main:m/", NAMES[1]))
    assert shown["min"] == shown["max"] == 20.0
    listed = json.loads(exported.git("theta", "ls-files", "--json", "--params", "main"))["checkpoints"]
    assert [[row["name"] for row in file["parameters"]] for file in listed] == [NAMES, NAMES]
    assert listed[0]["parameters"][0]["file"] == "model.onnx.data"
    assert "1 chunk" in exported.git("theta", "ls-files", "main", "--", DATA)
    alone = exported.git("theta", "ls-files", "--params", "main", "--", DATA)
    assert "6 parameters, 1.57 MB" in alone
    assert all(f"  {name}  F32 [64,1024]" in alone for name in NAMES)
    shown = json.loads(exported.git("theta", "show", "--json", f"main:{DATA}", NAMES[1]))
    assert shown["min"] == shown["max"] == 20.0


def test_a_model_whose_data_is_not_tracked_says_so(exported):
    exported.git("rm", "--quiet", "--cached", DATA)
    with pytest.raises(MissingError, match=r"its tensors are in model\.onnx\.data"):
        git_theta_ext.load(":m/model.onnx", repository=exported.path)
