"""The benchmark itself works; its figures mean nothing at this size."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch
from benchmarks import history, recode, scale, shards, small
from benchmarks.__main__ import main
from benchmarks.kinds import trained_pairs
from benchmarks.peers import PEERS
from benchmarks.training import Plan, checkpoints

from git_theta_ext.checkpoint.scan import scan

if TYPE_CHECKING:
    from collections.abc import Iterator

    from benchmarks.kinds import Pair
    from benchmarks.training import Run

SCRIPTS = Path(__file__).parents[2] / "scripts"
PLAN = Plan(family="tiny encoder", versions=7, steps=1, special=2)
"""Seven versions hold every special one."""


@pytest.fixture
def result(tmp_path: Path) -> Iterator[Path]:
    """Return the file for the results; a benchmark may change how many threads torch uses."""
    threads = torch.get_num_threads()
    yield tmp_path / "result.json"
    torch.set_num_threads(threads)


def bench(result: Path, *arguments: str) -> dict[str, Any]:
    """Run the benchmark in this process, which has imported torch already, and return what it wrote as JSON."""
    main([*arguments, "--repeat", "1", "--json", str(result)])
    return json.loads(result.read_text())


def test_benchmark_measures_every_job_and_counts_no_clean_after_checkout(result: Path) -> None:
    command = [sys.executable, "-m", "benchmarks", "--family", "tiny", "--repeat", "1", "--json", str(result)]
    done = subprocess.run(
        command, env={**os.environ, "PYTHONPATH": str(SCRIPTS)}, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    families = json.loads(result.read_text())["families"]
    rows = {row["measure"]: row for row in families[0]["rows"] if row["tool"] == "git-theta"}
    assert set(rows) == {
        "first add",
        "git theta add",
        "add, one tensor changed",
        "status after touch",
        "checkout of another version",
        "first status after checkout",
        "cleans in first status after checkout",
        "merge of different tensors (decide)",
        "merge of different tensors (with file)",
        "stored",
    }
    assert rows["cleans in first status after checkout"]["median"] == 0
    assert rows["stored"]["of_raw"] < 0.8


@pytest.fixture(scope="module")
def work(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the folder of the training run."""
    return tmp_path_factory.mktemp("trained")


@pytest.fixture(scope="module")
def run(work: Path) -> Run:
    """Train a model of a few layers."""
    return checkpoints(PLAN, work)


def test_a_training_run_gives_pairs_of_every_kind(run: Run, tmp_path: Path) -> None:
    formats = {}
    for name, old, new in trained_pairs(run, tmp_path):
        contents = [memoryview(file.read_bytes()) for file in (old, new)]
        assert contents[0] != contents[1]
        formats[name] = [scan(data, name).format for data in contents]
    assert len(formats) == 10
    opaque = {name for name, found in formats.items() if "opaque" in found}
    assert opaque == {"whole run, Q8_0 blocks"}
    assert set(KINDS) <= formats.keys()


KINDS = {"embedding grown", "consecutive, bf16", "whole run, Q8_0 blocks"}


def some_pairs(run: Run, folder: Path) -> list[Pair]:
    """Return a pair of equal shapes, one of different shapes, and one of a format that is not known."""
    return [pair for pair in trained_pairs(run, folder) if pair[0] in KINDS]


def test_history_is_kept_by_every_tool_and_recode_measures_every_encoding(
    run: Run, work: Path, result: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(recode, "trained_pairs", some_pairs)
    # Of the two ways to use git theta, the one that also collects between versions.
    peers = [replace(peer, often=4) if peer.often else peer for peer in PEERS if peer.name != "git-theta"]
    monkeypatch.setattr(history, "PEERS", peers)
    words = ["--encoder", PLAN.family, "--versions", "7", "--steps", "1", "--special", "2", "--work", str(work)]
    found = bench(result, "history", "recode", "--family", "tiny encoder", "--side", "256", *words)
    history_found = found["history"]
    rows = {row["tool"]: row for row in history_found["rows"]}
    assert history_found["versions"] == 7
    assert {"git-theta, gc every 10", "git"} <= set(rows)
    row = rows["git-theta, gc every 10"]
    assert row["stored"] < row["stored_before_gc"] < history_found["raw_bytes"]
    assert all(len(row["add_seconds"]) == 7 and len(row["checkout_seconds"]) == 3 for row in rows.values())
    assert {row["encoding"] for row in found["encodings"]} == {"dense", "delta", "scale", "low_rank", "ternary"}
    shares = {row["kind"]: row for row in found["shares"]}
    assert set(shares) == KINDS
    assert shares["consecutive, bf16"]["recoded"] < shares["consecutive, bf16"]["added"]
    bits = found["bounds"][0]["bits"]
    assert bits["exponent"] < 1.1 * bits["nothing"]
    assert {"delta", "exponent, neighbours", "earlier step again"} <= set(bits)
    commands = [row["command"] for row in found["large"]]
    assert commands[:3] == ["git add, base", "git add, fine-tune", "git theta gc"]
    assert all(row["peak_bytes"] > 0 for row in found["large"])


def test_merges_are_measured_for_every_method_and_tool(result: Path) -> None:
    found = bench(result, "merge", "--family", "tiny", "--side", "96")
    rows = found["merges"]
    assert {row["method"] for row in rows if row["tool"] == "git-theta"} == {"average", "ties"}
    assert all(row["seconds"] > 0 and row["peak_bytes"] > 0 for row in rows)
    methods = {row["method"] for row in found["devices"] if row["device"] == "cpu"}
    assert {"average", "ties", "slerp", "iso_c", "tsv_m", "knots", "actmat"} <= methods
    assert all(row["seconds"] > 0 and row["rate"] > 0 for row in found["devices"])
    streamed = [row for row in found["devices"] if row["device"] != "cpu" and row["method"] in {"average", "ties"}]
    assert all(row["of_bus"] > 0 for row in streamed)


def test_histories_are_measured_against_git_log(result: Path) -> None:
    rows = bench(result, "log", "--commits", "5")["log"]
    assert [row["command"].split(" ")[:3] for row in rows][:2] == [["git", "log", "-p"], ["git", "theta", "log"]]
    assert all(row["median"] > 0 and row["of_git"] > 0 for row in rows)


def test_growth_is_measured_by_command(result: Path) -> None:
    rows = bench(result, "scale", "--axis", "branches", "--upto", "1")["scale"]
    assert [row["command"] for row in rows][:3] == ["checkout", "push", "clone"]
    assert all(row["axis"] == "branches" and row["cpu_seconds"]["1"] > 0 for row in rows)
    assert all(row["fit"] is None for row in rows)
    assert scale.exponents({1: 1.0, 10: 1.0, 100: 10.0}) == pytest.approx([0, 1])
    assert scale.fitted_exponent({1: 1.0, 10: 1.0, 100: 10.0}) == pytest.approx(0.5)
    assert scale.each_more({1: 9.0, 10: 1.0, 100: 10.0}) == pytest.approx(0.1)


def test_shards_are_measured_against_one_file(result: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shards, "SHARDS", (2,))
    monkeypatch.setattr(shards, "CHECKPOINTS", (2,))
    rows = bench(result, "shards", "--family", "tiny encoder")["shards"]
    assert {row["job"] for row in rows} == {"first add", "checkout", "merge", "diff", "gc", "push"}
    assert len(rows) == 2 * 6
    assert all(row["cpu_seconds"] > 0 and row["peak_bytes_of_one"] == 1 for row in rows)


def test_many_small_checkpoints_are_measured_against_git_lfs_and_one(
    result: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(small, "FILES", 2)
    monkeypatch.setattr(small, "CHANGED", 2)
    monkeypatch.setattr(small, "METHOD", "ours")
    rows = [row for row in bench(result, "small")["small"] if row["subject"] != "git-lfs"]
    assert [(row["job"], row["subject"]) for row in rows] == [
        ("add", "git-theta"),
        ("checkout", "git-theta"),
        ("status after touching them", "git-theta"),
        (small.PYTHON, "git-theta"),
        *((" ".join(command), "git-theta") for command in small.COMMANDS),
        ("diff", "git-theta"),
        ("diff", "one file"),
        ("merge", "git-theta"),
        ("merge", "one file"),
    ]
    assert all(row["cpu_seconds"] > 0 for row in rows)
    assert all(row["ratio"] > 0 for row in rows if row["subject"] == "git-theta" and row["job"] in {"diff", "merge"})


def test_diffs_are_measured_against_reading(result: Path) -> None:
    rows = bench(result, "diff", "--family", "tiny encoder")["diff"]
    assert [row["job"] for row in rows][:3] == ["reading both versions", "structure", "numbers"]
    assert all(row["seconds"] > 0 and row["peak_bytes"] > 0 and row["of_reading"] > 0 for row in rows)


def test_an_edited_tensor_costs_what_it_costs_in_safetensors(result: Path, tmp_path: Path) -> None:
    (tmp_path / "files").mkdir()
    draw = np.random.default_rng(0)
    model = {f"layer{n}": draw.standard_normal((128, 128), dtype=np.float32) for n in range(5)}
    np.savez_compressed(tmp_path / "files" / "model.npz", **model)
    (row,) = bench(result, "formats", "--files", str(tmp_path / "files"))["formats"]
    assert (row["format"], row["tensors"], row["edited"]) == ("npz", 5, 128 * 128 * 4)
    assert 0 < row["edit"] < 1.1 * row["safetensors_edit"]
    assert row["cpu"] > 0


def test_quality_is_measured_by_split_method_and_round(result: Path) -> None:
    words = ["--seeds", "1", "--model", "perceptron", "--split", "halves", "--method", "regmean"]
    words += ["--method", "lora_concat", "--rounds", "0", "--classes", "10"]
    found = bench(result, "quality", *words)["quality"]
    rows = found["models"][0]["splits"]["halves"]
    assert set(rows["regmean"]) == {"whole", "per_task", "least", "option", "chosen"}
    assert rows["best expert"]["whole"] < rows["regmean"]["whole"]
    assert found["adapters"]["own starts"]["mean of the factors"] < found["adapters"]["own starts"]["lora_concat"]
    assert [len(figures) for figures in found["rounds"]["10 classes each"]] == [1]


def test_benchmark_counts_what_goes_to_an_lfs_server(result: Path) -> None:
    rows = bench(result, "lfs", "--family", "tiny")["lfs"]
    ours = {row["step"]: row for row in rows if row["tool"] == "git-theta"}
    assert list(ours) == [
        "push base",
        "push fine-tune",
        "push to another branch",
        "clone",
        "clone of all versions",
        "push one tensor of 80 MB",
        "push 10,000 tensors of 8 KB",
    ]
    assert ours["push to another branch"]["up"] < 50_000 < ours["push fine-tune"]["up"] < ours["push base"]["up"]
