"""Measure a model as one file and as shards, and one small checkpoint and many, in git's daily jobs."""

from __future__ import annotations

import json
import shutil
import statistics
from collections import defaultdict
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import TYPE_CHECKING, Any

from benchmarks.checkpoints import FAMILIES, write
from benchmarks.report import markdown
from benchmarks.tools import THETA, Repository, environment

if TYPE_CHECKING:
    from pathlib import Path

    from benchmarks.checkpoints import Family

SHARDS = (1, 2, 4, 30)
CHECKPOINTS = (1, 10)
SMALL = "tiny encoder"
MOST_FOR_SHARDS, MOST_FOR_CHECKPOINTS = 1.3, 1.5
"""Targets for the CPU time of a merge, as multiples of that of one file."""
STEP = 7e-5
_MERGE = ("-c", "theta.merge.method=ties", "merge", "--quiet", "-m", "merged", "side")

Spent = tuple[float, float, int]


@dataclass(frozen=True)
class Files:
    """A way to divide what is stored into files.

    Attributes:
        name: Name in the table.
        count: The number of files.
        family: The architecture.
        shards: Whether the files are shards of one model; otherwise each is a checkpoint of its own.
    """

    name: str
    count: int
    family: Family
    shards: bool

    def write(self, folder: Path, branch: int) -> None:
        """Write the files of a branch; branch 0 is the common ancestor."""
        moved = STEP if branch else 0.0
        if not self.shards:
            for number in range(self.count):
                (folder / str(number)).mkdir(exist_ok=True)
                # No two checkpoints have a tensor in common.
                steps = 100 * branch + number + 1
                write(folder / str(number) / "model.safetensors", self.family, moved=moved or STEP, branch=steps)
            return
        if self.count == 1:
            write(folder / "model.safetensors", self.family, moved=moved, branch=branch)
            return
        names = sorted(self.family.shapes)
        weight_map, size = {}, 0
        for number, (start, end) in enumerate(pairwise(len(names) * n // self.count for n in range(self.count + 1)), 1):
            file = f"model-{number:05}-of-{self.count:05}.safetensors"
            part = {name: self.family.shapes[name] for name in names[start:end]}
            size += write(folder / file, replace(self.family, shapes=part), moved=moved, branch=branch)
            weight_map |= dict.fromkeys(part, file)
        index = {"metadata": {"total_size": size}, "weight_map": weight_map}
        (folder / "model.safetensors.index.json").write_text(json.dumps(index, indent=2))


def measure(family: Family, folder: Path, repetitions: int) -> list[dict[str, Any]]:
    """Measure wall time, CPU time and memory of add, checkout, merge, gc and push.

    Args:
        family: The architecture of the model in shards.
        folder: The folder to work in.
        repetitions: Number of repetitions, of which the median is taken.
    """
    folder.mkdir()
    env = environment(folder / "home")
    layouts = [Files(f"{family.name}, files: {count}", count, family, shards=True) for count in SHARDS]
    layouts += [Files(f"{SMALL}, checkpoints: {count}", count, FAMILIES[SMALL], shards=False) for count in CHECKPOINTS]
    rows: list[dict[str, Any]] = []
    for files in layouts:
        samples: dict[str, list[Spent]] = defaultdict(list)
        for _ in range(repetitions):
            for job, spent in _jobs(files, folder / "repository", env).items():
                samples[job].append(spent)
            shutil.rmtree(folder / "repository")
        for job, measured in samples.items():
            wall, cpu, peak = (statistics.median(figures) for figures in zip(*measured, strict=True))
            row = {"files": files.name, "shards": files.shards, "job": job, "samples": measured}
            rows.append(row | {"seconds": wall, "cpu_seconds": cpu, "peak_bytes": peak})
    shutil.rmtree(folder)
    for row in rows:
        one = next(other for other in rows if (other["shards"], other["job"]) == (row["shards"], row["job"]))
        row |= {f"{key}_of_one": row[key] / one[key] for key in ("seconds", "cpu_seconds", "peak_bytes")}
    return rows


def _jobs(files: Files, path: Path, env: dict[str, str]) -> dict[str, Spent]:
    repository = Repository(path, THETA, env)
    host = path / "host.git"
    repository.git("init", "--quiet", "--bare", str(host))
    repository.git("remote", "add", "origin", str(host))
    (path / ".git/info/exclude").write_text("/host.git\n")
    files.write(path, 0)
    spent = {"first add": repository.spent("add", "--all")}
    repository.git("commit", "--quiet", "--message", "base")
    for branch, number in (("side", 1), ("main", 2)):
        repository.git("checkout", "--quiet", *(["-b"] if branch == "side" else []), branch)
        files.write(path, number)
        repository.git("add", "--all")
        repository.git("commit", "--quiet", "--message", branch)
    spent["checkout"] = repository.spent("checkout", "--quiet", "side")
    repository.git("checkout", "--quiet", "main")
    spent["merge"] = repository.spent(*_MERGE)
    spent["diff"] = repository.spent("diff", "HEAD~1", "HEAD")
    spent["gc"] = repository.spent("theta", "gc", "--quiet")
    spent["push"] = repository.spent("push", "--quiet", "origin", "main")
    return spent


def table(rows: list[dict[str, Any]]) -> str:
    """Render the figures as Markdown, each as a multiple of that of one file too."""
    cells = []
    for row in sorted(rows, key=lambda row: (not row["shards"], row["job"])):
        target = MOST_FOR_SHARDS if row["shards"] else MOST_FOR_CHECKPOINTS
        missed = row["job"] == "merge" and row["cpu_seconds_of_one"] > target
        cells.append(
            [
                row["job"],
                row["files"],
                f"{row['seconds']:.2f} s",
                f"{row['seconds_of_one']:.2f}",
                f"{row['cpu_seconds']:.2f} s",
                f"{row['cpu_seconds_of_one']:.2f}",
                f"{row['peak_bytes'] / 1e6:.0f} MB",
                f"{row['peak_bytes_of_one']:.2f}",
                "" if row["job"] != "merge" else f"{'MISS' if missed else 'pass'} (CPU <= {target})",
            ]
        )
    columns = ["job", "files", "wall", "of one", "CPU", "of one", "peak memory", "of one", ""]
    return markdown(columns, cells)
