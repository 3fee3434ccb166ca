"""The benchmark itself works; its figures mean nothing at this size."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

SCRIPTS = Path(__file__).parents[2] / "scripts"


def bench(tmp_path: Path, *arguments: str) -> dict[str, Any]:
    """Run the benchmark and return what it wrote as JSON."""
    result = tmp_path / "result.json"
    command = [sys.executable, "-m", "benchmarks", *arguments, "--repeat", "1", "--json", str(result)]
    done = subprocess.run(
        command, env={**os.environ, "PYTHONPATH": str(SCRIPTS)}, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return json.loads(result.read_text())


def test_benchmark_measures_every_job_and_counts_no_clean_after_checkout(tmp_path: Path) -> None:
    families = bench(tmp_path, "--family", "tiny")["families"]
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


def test_history_is_kept_by_every_tool_and_recode_measures_every_encoding_and_every_kind_of_pair(
    tmp_path: Path,
) -> None:
    # Seven versions hold every special one; both jobs measure the same training run.
    words = ["--encoder", "tiny encoder", "--versions", "7", "--steps", "1", "--special", "2"]
    found = bench(tmp_path, "history", "recode", "--family", "tiny", "--side", "256", *words)
    history = found["history"]
    rows = {row["tool"]: row for row in history["rows"]}
    assert history["versions"] == 7
    assert {"git-theta", "git"} <= set(rows)
    assert rows["git-theta"]["stored"] < rows["git-theta"]["stored_before_gc"] < history["raw_bytes"]
    assert all(len(row["add_seconds"]) == 7 and len(row["checkout_seconds"]) == 3 for row in rows.values())
    assert {row["encoding"] for row in found["encodings"]} == {"dense", "delta", "scale", "low_rank", "ternary"}
    shares = {row["kind"]: row for row in found["shares"]}
    assert {"embedding grown", "consecutive, exp_avg_sq", "whole run, Q8_0 blocks"} <= set(shares)
    assert shares["consecutive, bf16"]["recoded"] < shares["consecutive, bf16"]["added"]
    bits = found["bounds"][0]["bits"]
    assert bits["exponent"] < 1.1 * bits["nothing"]
    assert {"delta", "exponent, neighbours", "earlier step again"} <= set(bits)
    commands = [row["command"] for row in found["large"]]
    assert commands[:3] == ["git add, base", "git add, fine-tune", "git theta gc"]
    assert all(row["peak_bytes"] > 0 for row in found["large"])


def test_merges_are_measured_for_every_method_and_tool(tmp_path: Path) -> None:
    found = bench(tmp_path, "merge", "--family", "tiny", "--side", "96")
    rows = found["merges"]
    assert {row["method"] for row in rows if row["tool"] == "git-theta"} == {"average", "ties"}
    assert all(row["seconds"] > 0 and row["peak_bytes"] > 0 for row in rows)
    methods = {row["method"] for row in found["devices"] if row["device"] == "cpu"}
    assert {"average", "ties", "slerp", "iso_c", "tsv_m", "knots", "actmat"} <= methods
    assert all(row["seconds"] > 0 and row["rate"] > 0 for row in found["devices"])
    streamed = [row for row in found["devices"] if row["device"] != "cpu" and row["method"] in {"average", "ties"}]
    assert all(row["of_bus"] > 0 for row in streamed)


def test_quality_is_measured_by_split_method_and_round(tmp_path: Path) -> None:
    words = ["--seeds", "1", "--model", "perceptron", "--split", "halves", "--method", "regmean"]
    words += ["--method", "lora_concat", "--rounds", "0", "--classes", "10"]
    found = bench(tmp_path, "quality", *words)["quality"]
    rows = found["models"][0]["splits"]["halves"]
    assert set(rows["regmean"]) == {"whole", "per_task", "least", "option", "chosen"}
    assert rows["best expert"]["whole"] < rows["regmean"]["whole"]
    assert found["adapters"]["own starts"]["mean of the factors"] < found["adapters"]["own starts"]["lora_concat"]
    assert [len(figures) for figures in found["rounds"]["10 classes each"]] == [1]


def test_benchmark_counts_what_goes_to_an_lfs_server(tmp_path: Path) -> None:
    rows = bench(tmp_path, "lfs", "--family", "tiny")["lfs"]
    ours = {row["step"]: row for row in rows if row["tool"] == "git-theta"}
    assert list(ours) == ["push base", "push fine-tune", "push to another branch", "clone"]
    assert ours["push to another branch"]["up"] < 50_000 < ours["push fine-tune"]["up"] < ours["push base"]["up"]
