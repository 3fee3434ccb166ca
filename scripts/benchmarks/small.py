"""Measure git's daily jobs on many small checkpoints, which cost hardly more than the start of the processes."""

from __future__ import annotations

import os
import shlex
import shutil
import statistics
import sys
from collections import defaultdict
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from benchmarks.checkpoints import Family, write
from benchmarks.report import markdown
from benchmarks.tools import LFS, THETA, Repository, environment

if TYPE_CHECKING:
    from pathlib import Path

    from benchmarks.tools import Tool

FILES, CHANGED = 100, 10
RANK, WIDTH, LAYERS = 8, 768, 6
ADAPTER = Family(
    "adapter of 590 kB",
    "F32",
    {
        f"base_model.model.layers.{layer}.self_attn.{role}_proj.lora_{factor}.weight": shape
        for layer in range(LAYERS)
        for role in "qv"
        for factor, shape in (("A", (RANK, WIDTH)), ("B", (WIDTH, RANK)))
    },
)
"""The adapter of a small encoder."""

PYTHON = "start of Python"
COMMANDS = (
    ("theta", "--version"),
    ("theta", "status"),
    ("theta", "ls-files"),
    ("theta", "log", "-1"),
    ("theta", "hook", "pre-push", "origin", "origin"),
    ("diff", "--quiet"),
)
"""What users run often, and git for them; most of it is the start of the processes."""

STEP = 1e-3
METHOD = "average"


@dataclass(frozen=True)
class Target:
    """What a job on ten files is compared with.

    Attributes:
        peer: The same job with this tool, or on one file.
        most: The target for the CPU time, as a multiple of the peer's.
    """

    peer: str
    most: float


TARGETS = {
    "add": Target(LFS.name, 2.5),
    "checkout": Target(LFS.name, 2.5),
    "diff": Target("one file", 2),
    "merge": Target("one file", 1.5),
}


def measure(folder: Path, repetitions: int) -> list[dict[str, Any]]:
    """Measure the CPU time of all processes of each job, and its wall time and memory.

    Args:
        folder: The folder to work in.
        repetitions: Number of repetitions, in which the tools take turns; the median is taken.
    """
    folder.mkdir()
    env = environment(folder / "home")
    samples: dict[tuple[str, str], list[tuple[float, float, int]]] = defaultdict(list)
    for _ in range(repetitions):
        for tool in (THETA, *([LFS] if shutil.which("git-lfs") else [])):
            _one_tool(folder / "repository", tool, env, samples)
            shutil.rmtree(folder / "repository")
    rows: list[dict[str, Any]] = []
    for (job, subject), measured in samples.items():
        wall, cpu, peak = (statistics.median(figures) for figures in zip(*measured, strict=True))
        row = {"job": job, "subject": subject, "samples": measured}
        rows.append(row | {"seconds": wall, "cpu_seconds": cpu, "peak_bytes": peak})
    cpu_seconds = {(row["job"], row["subject"]): row["cpu_seconds"] for row in rows}
    for row in rows:
        target = TARGETS.get(row["job"])
        if target and row["subject"] == THETA.name and (row["job"], target.peer) in cpu_seconds:
            ratio = row["cpu_seconds"] / cpu_seconds[row["job"], target.peer]
            row |= {"peer": target.peer, "ratio": ratio, "target": target.most, "passed": ratio <= target.most}
    return rows


def _one_tool(path: Path, tool: Tool, env: dict[str, str], samples: dict[tuple[str, str], list[Any]]) -> None:
    repository = Repository(path, tool, env)
    _put(repository, range(FILES), 0)
    repository.git("add", "--all")
    repository.git("commit", "--quiet", "--message", "base")
    # Two branches change ten files, and two change one.
    branches = {"side": CHANGED, "ours": CHANGED, "side-of-one": 1, "ours-of-one": 1}
    for version, (branch, count) in enumerate(branches.items(), 1):
        repository.git("checkout", "--quiet", "-b", branch, "main")
        _put(repository, range(count), version)
        spent = repository.spent("add", "--all")
        if branch == "side":
            samples["add", tool.name].append(spent)
        repository.git("commit", "--quiet", "--message", branch)
    repository.git("checkout", "--quiet", "main")
    samples["checkout", tool.name].append(repository.spent("checkout", "--quiet", "ours"))
    for number in range(CHANGED):
        os.utime(_adapter(repository, number))
    samples["status after touching them", tool.name].append(repository.spent("status"))
    if tool is not THETA:
        return
    start = f"alias.start=!{shlex.quote(sys.executable)} -c pass"
    samples[PYTHON, tool.name].append(repository.spent("-c", start, "start"))
    for command in COMMANDS:
        samples[" ".join(command), tool.name].append(repository.spent(*command))
    samples["diff", tool.name].append(repository.spent("diff", "main", "ours"))
    samples["diff", "one file"].append(repository.spent("diff", "main", "ours-of-one"))
    # As before the merge of one file, git has just checked the files out. Those touched above may be as new as the
    # index, and git would compare them first.
    repository.git("checkout", "--quiet", "main")
    repository.git("checkout", "--quiet", "ours")
    samples["merge", tool.name].append(repository.spent(*_merge("side")))
    repository.git("checkout", "--quiet", "ours-of-one")
    samples["merge", "one file"].append(repository.spent(*_merge("side-of-one")))


def _merge(branch: str) -> tuple[str, ...]:
    return ("-c", f"theta.merge.method={METHOD}", "merge", "--quiet", "-m", "merged", branch)


def _put(repository: Repository, numbers: range, version: int) -> None:
    for number in numbers:
        file = _adapter(repository, number)
        file.parent.mkdir(exist_ok=True)
        # No two adapters have a tensor in common.
        seed = 1000 * version + number + 1
        write(file, ADAPTER, moved=STEP, branch=seed)


def _adapter(repository: Repository, number: int) -> Path:
    return repository.path / f"adapter-{number:03}" / "adapter_model.safetensors"


def table(rows: list[dict[str, Any]]) -> str:
    """Render the figures as Markdown."""
    cells = [
        [
            row["job"],
            row["subject"],
            f"{row['cpu_seconds']:.2f} s",
            f"{row['seconds']:.2f} s",
            f"{row['peak_bytes'] / 1e6:.0f} MB",
            f"{row['ratio']:.2f} of {row['peer']}" if "ratio" in row else "",
            f"{'pass' if row['passed'] else 'MISS'} (<= {row['target']})" if "ratio" in row else "",
        ]
        for row in rows
    ]
    return markdown(["job", "", "CPU", "wall", "peak memory", "ratio", ""], cells)
