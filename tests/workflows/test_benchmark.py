"""The benchmark itself works; its figures mean nothing at this size."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

SCRIPTS = Path(__file__).parents[2] / "scripts"


def test_benchmark_measures_every_job_and_counts_no_clean_after_checkout(tmp_path: Path) -> None:
    result = tmp_path / "result.json"
    command = [sys.executable, "-m", "benchmarks", "--family", "tiny", "--repeat", "1", "--json", str(result)]
    done = subprocess.run(
        command, env={**os.environ, "PYTHONPATH": str(SCRIPTS)}, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    rows = {
        row["measure"]: row
        for row in json.loads(result.read_text())["families"][0]["rows"]
        if row["tool"] == "git-theta"
    }
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
