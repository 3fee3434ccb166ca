"""Merges of two fine-tunes of one checkpoint, in git-theta and in mergekit, on the same files."""

from __future__ import annotations

import json
import shutil
import statistics
from typing import TYPE_CHECKING, Any

from benchmarks.checkpoints import write
from benchmarks.report import markdown
from benchmarks.tools import THETA, Repository, digest, environment, weighed

if TYPE_CHECKING:
    from pathlib import Path

    from benchmarks.checkpoints import Family

METHODS = ("average", "ties")
STEP = 7e-5
_DTYPES = {"BF16": "bfloat16", "F32": "float32"}


def measure(family: Family, place: Path, repetitions: int) -> list[dict[str, Any]]:
    """Measure wall time and memory of three-way merges.

    Args:
        family: Architecture of the checkpoints.
        place: Folder to work in.
        repetitions: Of each merge; medians are taken.

    Raises:
        RuntimeError: A merge changed nothing.
    """
    place.mkdir()
    env = environment(place / "home")
    files = [place / f"{name}.safetensors" for name in ("base", "ours", "theirs")]
    for number, file in enumerate(files):
        write(file, family, moved=STEP if number else 0.0, branch=number)
    repository = _repository(place, files, env)
    rows = []
    for method in METHODS:
        samples: dict[str, list[tuple[float, int]]] = {"git-theta": []}
        if shutil.which("mergekit-pytorch"):
            samples["mergekit"] = []
        for _ in range(repetitions):
            samples["git-theta"].append(_theta(repository, files, method))
            if "mergekit" in samples:
                samples["mergekit"].append(_mergekit(place, files, family, method, env))
        for tool, found in samples.items():
            seconds, peaks = zip(*found, strict=True)
            row = {"family": family.name, "method": method, "tool": tool, "samples": found}
            rows.append(row | {"seconds": statistics.median(seconds), "peak_bytes": max(peaks)})
    shutil.rmtree(place)
    return rows


def _repository(place: Path, files: list[Path], env: dict[str, str]) -> Repository:
    repository = Repository(place / "repository", THETA, env)
    base, ours, theirs = files
    for branch, file in (("main", base), ("side", theirs), ("main", ours)):
        if branch == "side":
            repository.git("branch", "--quiet", "side")
        repository.git("checkout", "--quiet", branch)
        repository.put(file)
        repository.git("add", "--all")
        repository.git("commit", "--quiet", "--message", file.stem)
    return repository


def _theta(repository: Repository, files: list[Path], method: str) -> tuple[float, int]:
    store = repository.path / ".git" / "theta"
    before = set(store.rglob("packs/*/*"))
    merge = ("-c", f"theta.merge.method={method}", "merge", "--quiet", "-m", "merged", "side")
    found = repository.weighed(*merge)
    if repository.sha256() in {digest(file) for file in files}:
        raise RuntimeError(f"{method} changed nothing")
    repository.git("reset", "--quiet", "--hard", "HEAD~1")
    # What was computed must not be there the next time.
    for pack in {*store.rglob("packs/*/*"), *store.glob("index.sqlite3*")} - before:
        pack.unlink()
    return found


def _mergekit(place: Path, files: list[Path], family: Family, method: str, env: dict[str, str]) -> tuple[float, int]:
    base, *branches = (str(file) for file in files)
    parameters = {"weight": 1.0} | ({"density": 0.2} if method == "ties" else {})
    config: dict[str, Any] = {
        "merge_method": {"average": "linear"}.get(method, method),
        "models": [{"model": branch, "parameters": parameters} for branch in branches],
        "dtype": _DTYPES[family.dtype],
    }
    if method == "ties":
        config["base_model"] = base
    (place / "config.yml").write_text(json.dumps(config))  # JSON is YAML
    command = ["mergekit-pytorch", "--quiet", str(place / "config.yml"), str(place / "merged")]
    found = weighed(command, place, env)
    shutil.rmtree(place / "merged")
    return found


def table(rows: list[dict[str, Any]]) -> str:
    """Render the figures as Markdown, each with its share of mergekit's."""
    columns = ["checkpoints", "method", "tool", "wall", "of mergekit", "peak memory", "of mergekit"]
    cells = []
    for row in rows:
        key = (row["family"], row["method"])
        peers = [each for each in rows if each["tool"] == "mergekit" and (each["family"], each["method"]) == key]
        shares = [f"{row[what] / peers[0][what]:.2f}" if peers else "" for what in ("seconds", "peak_bytes")]
        wall, peak = f"{row['seconds']:.2f} s", f"{row['peak_bytes'] / 1e6:.0f} MB"
        cells.append([*key, row["tool"], wall, shares[0], peak, shares[1]])
    return markdown(columns, cells)
