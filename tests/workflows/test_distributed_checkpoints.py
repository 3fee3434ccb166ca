"""Directories of torch.distributed.checkpoint: one model of named tensors, merged and loaded."""

from __future__ import annotations

import json
import re
import struct
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
import torch
from torch.distributed import checkpoint

import git_theta_ext
from git_theta_ext.testing.formats import assemble, lay_out
from git_theta_plugins.formats.safetensors import FORMAT as SAFETENSORS
from git_theta_plugins.formats.torch_dcp import FORMAT

if TYPE_CHECKING:
    from collections.abc import Mapping

    from helpers import Repo, WithHistory

GOLDEN = Path(__file__).parents[1] / "golden" / "dcp"
OF_FOUR = GOLDEN.with_name("dcp_of_four")
"""The same checkpoint, saved by four processes, of which one has nothing of any tensor."""
SAVED = b"save_id"
FIRST = {"layer.weight[3:6]": 12.0, "head.weight[:,0:2]": 0.0, "norm.bias": 1.0}
"""The first value of some tensors of the golden checkpoint."""

SHAPES = {"layer.weight": (6, 4), "head.weight": (3, 4), "norm.bias": (3,)}


def _files(save: bytes = b"", folder: Path = GOLDEN, **changed: float) -> dict[str, bytes]:
    """Return a checkpoint saved anew, in which every value of some tensors is another one."""
    metadata = (folder / ".metadata").read_bytes()
    at = metadata.index(SAVED) + len(SAVED) + 3
    files = {"ck/.metadata": metadata[:at] + save + metadata[at + len(save) :]}
    index = FORMAT.read_index(metadata)
    for path in folder.glob("*.distcp"):
        layout, tensors = lay_out(FORMAT, path.read_bytes())
        for name, data in tensors.items():
            value = changed.get(index.name_in_model(path.name, name))
            if value is not None:
                tensors[name] = struct.pack("<f", value) * (len(data) // 4)
        files[f"ck/{path.name}"] = assemble(layout, tensors)
    return files


def _state(folder: Path) -> dict[str, object]:
    """Return a checkpoint as torch loads it."""
    state = {
        "layer.weight": torch.zeros(6, 4),
        "head.weight": torch.zeros(3, 4),
        "norm.bias": torch.zeros(3),
        "step": torch.tensor(0),
        "lr": 0.0,
    }
    checkpoint.load(state, checkpoint_id=folder)
    return state


def _write(repo: Repo, files: Mapping[str, bytes], message: str) -> None:
    for path, data in files.items():
        repo.write(data, path)
    repo.commit(message)


def _tracked(repo: Repo) -> None:
    repo.git("init", "--quiet")
    repo.git("theta", "track", "--preset", "dcp")
    _write(repo, _files(), "first")
    repo.git("branch", "side")
    _write(repo, _files(b"11111111", **{"layer.weight[3:6]": 5.0, "norm.bias": 2.0}), "ours")
    repo.git("switch", "--quiet", "side")
    _write(repo, _files(b"22222222", **{"head.weight[:,0:2]": 7.0, "norm.bias": 4.0}), "theirs")


@pytest.mark.filterwarnings("ignore:torch.distributed is")
def test_branches_are_merged_by_name_and_loaded_by_torch(with_history: WithHistory) -> None:
    repo = with_history(_tracked)
    diff = repo.git("theta", "diff", "main", "side")
    for name in FIRST:
        assert name.partition("[")[0] in diff
    shown = json.loads(repo.git("theta", "show", "--json", "HEAD:ck"))
    assert {row["name"]: len(row.get("pieces", ())) for row in shown["parameters"]} == {
        "layer.weight": 2,
        "head.weight": 2,
        "norm.bias": 0,
        "step": 0,
    }
    loaded = git_theta_ext.load("HEAD:ck", repository=repo.path)
    assert set(loaded) == {row["name"] for row in shown["parameters"]}
    assert (loaded["head.weight"][:, :2] == 7).all()
    assert torch.equal(loaded["layer.weight"], torch.arange(24.0).reshape(6, 4))
    repo.git("-c", "theta.merge.method=average", "merge", "--quiet", "--no-edit", "main")
    state = _state(repo.path / "ck")
    assert (state["layer.weight"][3:] == 5).all()
    assert torch.equal(state["layer.weight"][:3], torch.arange(12.0).reshape(3, 4))
    assert (state["head.weight"][:, :2] == 7).all()
    assert (state["norm.bias"] == 3).all()
    assert state["lr"] == 0.5
    assert "1 parameter computed again" in repo.git("theta", "merge", "--replay", "HEAD")
    assert not repo.git("status", "--porcelain")


def _four(repo: Repo) -> None:
    repo.git("init", "--quiet")
    repo.git("theta", "track", "--preset", "dcp")
    _write(repo, {f"ck/{path.name}": path.read_bytes() for path in OF_FOUR.iterdir()}, "saved by four processes")


def test_a_tensor_of_which_some_processes_have_nothing_is_shown_and_exported_whole(with_history: WithHistory) -> None:
    repo = with_history(_four)
    listed = repo.git("theta", "ls-files", "--models", "--params")
    assert re.search(r"model.distcp +\(4 files, torch_dcp, 4 parameters, 164 B\)", listed)
    assert re.search(r"layer.weight +F32 \[6,4\] +in 3 pieces", listed)
    shown = repo.git("theta", "show", "HEAD:ck", "layer.weight")
    assert "first   0 1 2 3 4 5 6 7" in shown
    raw = struct.pack("<24f", *range(24))
    with (repo.path / "raw").open("wb") as file:
        subprocess.run(["git", "theta", "cat", "HEAD:ck", "layer.weight"], cwd=repo.path, stdout=file, check=True)
    assert repo.read("raw") == raw
    repo.git("theta", "export", "--to", "safetensors", "HEAD:ck", "whole.safetensors")
    _, tensors = lay_out(SAFETENSORS, (repo.path / "whole.safetensors").read_bytes())
    assert set(tensors) == {"layer.weight", "head.weight", "norm.bias", "step"}
    assert tensors["layer.weight"] == raw
    done = repo.run("theta", "add", "ck", "--update", "sparse=whole.safetensors", check=False)
    assert done.returncode == 2
    assert "ck has its tensors in pieces, and an update applies to whole ones" in done.stderr
    assert "git theta export --to safetensors HEAD:ck FILE" in done.stderr


def _resharded(repo: Repo) -> None:
    repo.git("init", "--quiet")
    repo.git("theta", "track", "--preset", "dcp")
    _write(repo, _files(), "first")
    repo.git("branch", "side")
    _write(repo, _files(b"11111111", **{"layer.weight[3:6]": 5.0, "norm.bias": 2.0}), "ours")
    repo.git("switch", "--quiet", "side")
    for path in (repo.path / "ck").iterdir():
        path.unlink()
    changed = {"norm.bias[1:2]": 4.0, "head.weight[2:3]": 7.0, "step": 0.0}
    _write(repo, _files(b"22222222", OF_FOUR, **changed), "theirs, of four processes")
    repo.git("switch", "--quiet", "main")


@pytest.mark.filterwarnings("ignore:torch.distributed is")
@pytest.mark.parametrize("strategy", [("-s", "theta"), ()], ids=["at once", "file by file"])
def test_versions_of_two_numbers_of_processes_are_merged_in_our_pieces(
    with_history: WithHistory, strategy: tuple[str, ...]
) -> None:
    repo = with_history(_resharded)
    merge = ("-c", "theta.merge.method=average", "merge", "--quiet", "--no-edit", *strategy, "side")
    done = repo.run(*merge, check=False)
    assert "saved by different numbers of processes; the merged files are those of ours" in done.stderr
    if not strategy:
        assert done.returncode == 1
        repo.git("theta", "resolve", "ck")
        repo.git("commit", "--quiet", "--no-edit")
    assert sorted(path.name for path in (repo.path / "ck").iterdir()) == [".metadata", "__0_0.distcp", "__1_0.distcp"]
    state = _state(repo.path / "ck")
    assert state["layer.weight"].tolist() == [*torch.arange(12.0).reshape(3, 4).tolist(), *[[5.0] * 4] * 3]
    assert state["head.weight"].tolist() == [[0, 1, 2, 3], [4, 5, 6, 7], [7] * 4]
    assert state["norm.bias"].tolist() == [1.5, 3, 1.5]
    assert state["lr"] == 0.5
    assert "identical" in repo.git("theta", "merge", "--replay", "HEAD")
    assert not repo.git("status", "--porcelain")


def test_versions_of_two_numbers_of_processes_are_compared_by_tensor(with_history: WithHistory) -> None:
    repo = with_history(_resharded)
    (found,) = json.loads(repo.git("theta", "diff", "--json", "main~", "side"))["models"]
    assert found["summary"] | {"modified": 3, "unchanged": 1, "added": 0, "removed": 0} == found["summary"]
    rows = {row["name"]: row for row in found["parameters"]}
    assert rows.keys() == {"norm.bias", "head.weight", "step"}
    assert rows["norm.bias"]["stats"]["changed"] == 1
    shown = json.loads(repo.git("theta", "show", "--json", "side:ck", "head.weight"))
    assert rows["head.weight"]["new"]["digest"] == shown["digest"]
    change = git_theta_ext.diff("main~:ck", "side:ck", repository=repo.path)
    assert {row["name"] for row in change.to_dict()["parameters"]} == rows.keys()
    assert "head.weight" in repo.git("theta", "diff", "--cached", "side", "--", "ck")


def test_the_history_is_that_of_tensors(with_history: WithHistory) -> None:
    repo = with_history(_resharded)
    (ours, first) = json.loads(repo.git("theta", "log", "--json", "--", "ck"))["commits"]
    (model,) = ours["models"]
    assert model["modified"] == ["layer.weight", "norm.bias"]
    assert (model["added"], model["removed"], model["resharded"], model["unchanged"]) == ([], [], [], 2)
    assert first["models"][0]["added"] == ["head.weight", "layer.weight", "norm.bias", "step"]
    (theirs, _) = json.loads(repo.git("theta", "log", "--json", "side", "--", "ck"))["commits"]
    (model,) = theirs["models"]
    assert model["resharded"] == ["head.weight", "layer.weight", "norm.bias"]
    assert (model["added"], model["removed"], model["modified"]) == ([], [], ["step"])
    assert "1 modified, 3 re-sharded" in repo.git("theta", "log", "-1", "side")
    assert "layer.weight[3:6]" in repo.git("theta", "log", "--numbers", "-1", "--param", "layer.*")


def test_blame_shows_a_tensor_in_one_line_if_one_commit_has_all_its_pieces(with_history: WithHistory) -> None:
    repo = with_history(_resharded)
    lines = [line.split()[2:5] for line in repo.git("theta", "blame", "--full", "ck").splitlines()]
    assert ["head.weight", "1", "first"] in lines
    assert ["layer.weight[0:3]", "1", "first"] in lines
    assert ["layer.weight[3:6]", "1", "ours"] in lines


def test_numbers_of_the_history_tell_files_apart(with_history: WithHistory) -> None:
    repo = with_history(_resharded)
    assert "rel. change" in repo.git("theta", "log", "--numbers", "-1", "--", "ck")


def test_python_merges_whole_tensors_of_two_numbers_of_processes(with_history: WithHistory) -> None:
    repo = with_history(_resharded)
    merged = git_theta_ext.merge(["main:ck", "side:ck"], method="average", repository=repo.path)
    assert set(merged) == set(SHAPES) | {"step"}
    assert merged["norm.bias"].tolist() == [1.5, 3, 1.5]
    assert merged["layer.weight"][3:].tolist() == [[5.0] * 4] * 3


def test_index_that_git_cannot_merge_is_resolved_with_the_model(with_history: WithHistory) -> None:
    repo = with_history(_tracked)
    (repo.path / ".gitattributes").write_text("*.distcp filter=theta diff=theta merge=theta -text\n")
    repo.commit("no driver for the index")
    done = repo.run("-c", "theta.merge.method=average", "merge", "--quiet", "--no-edit", "main", check=False)
    assert done.returncode == 1
    assert "git theta resolve ck" in done.stderr
    repo.git("theta", "resolve", "ck")
    repo.git("commit", "--quiet", "--no-edit")
    expected = _files(b"22222222", **{"layer.weight[3:6]": 5.0, "head.weight[:,0:2]": 7.0, "norm.bias": 3.0})
    assert {path: repo.read(path) for path in expected} == expected


def _clashing(repo: Repo) -> None:
    repo.git("init", "--quiet")
    repo.git("theta", "track", "*.distcp")
    _write(repo, _files(), "first")
    repo.git("branch", "side")
    _write(repo, _files(b"11111111", **{"layer.weight[3:6]": 5.0, "head.weight[:,0:2]": 2.0}), "ours")
    repo.git("switch", "--quiet", "side")
    _write(repo, _files(b"22222222", **{"layer.weight[3:6]": 6.0, "head.weight[:,0:2]": 7.0}), "theirs")


def test_conflicts_of_two_files_are_told_apart_although_their_numbers_are_the_same(with_history: WithHistory) -> None:
    repo = with_history(_clashing)
    done = repo.run("-c", "theta.merge.method=conflict", "merge", "--quiet", "--no-edit", "main", check=False)
    assert done.returncode == 1
    repo.git("theta", "resolve", "--method", "theirs", "ck")
    repo.git("commit", "--quiet", "--no-edit")
    expected = _files(**{"layer.weight[3:6]": 5.0, "head.weight[:,0:2]": 2.0})
    assert {path: repo.read(path) for path in expected if path.endswith(".distcp")} == {
        path: data for path, data in expected.items() if path.endswith(".distcp")
    }
