"""Measure what a diff of two versions of a model takes, against reading both versions once."""

from __future__ import annotations

import statistics
import sys
from collections import defaultdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from benchmarks.checkpoints import write
from benchmarks.report import markdown
from benchmarks.tools import MODEL, THETA, Repository, environment, weighed

if TYPE_CHECKING:
    from benchmarks.checkpoints import Family

MOST_TIMES_READING = 3.0
MOST_SECONDS = 0.3
"""Targets for the wall time of the numbers, and of the structure and of a diff whose numbers are known."""

STEP = 7e-5
_VERSIONS = ("HEAD~1", "HEAD")
_JOBS = {
    "reading both versions": None,
    "structure": ("theta", "diff", "--structure", *_VERSIONS),
    "numbers": ("theta", "diff", *_VERSIONS),
    "numbers again": ("theta", "diff", *_VERSIONS),
    "git diff again": ("diff", *_VERSIONS),
}


def measure(family: Family, folder: Path, repetitions: int) -> list[dict[str, Any]]:
    """Measure wall time and peak memory of each step.

    Args:
        family: The architecture of the model, of which all parameters change.
        folder: The folder to work in.
        repetitions: Number of repetitions, of which the median is taken.
    """
    folder.mkdir()
    env = environment(folder / "home")
    importing = env | {"PYTHONPATH": str(Path(__file__).parents[1])}
    repository = Repository(folder / "repository", THETA, env)
    for number in range(2):
        nbytes = write(repository.model, family, moved=STEP * number, branch=number)
        repository.git("add", "--all")
        repository.git("commit", "--quiet", "--message", f"version {number}")
    repository.model.unlink()
    samples: dict[str, list[tuple[float, int]]] = defaultdict(list)
    for _ in range(repetitions):
        (repository.path / ".git/theta/distances.sqlite3").unlink(missing_ok=True)
        for job, words in _JOBS.items():
            if words is None:
                reading = [sys.executable, "-m", "benchmarks.diffs", str(repository.path), *_VERSIONS]
                samples[job].append(weighed(reading, repository.path, importing))
            else:
                samples[job].append(repository.weighed(*words))
    rows: list[dict[str, Any]] = []
    for job, figures in samples.items():
        seconds, peak = (statistics.median(values) for values in zip(*figures, strict=True))
        row = {"family": family.name, "bytes": nbytes, "job": job, "seconds": seconds, "peak_bytes": peak}
        rows.append(row | {"samples": figures, "of_reading": seconds / (rows[0] if rows else row)["seconds"]})
    return rows


def table(rows: list[dict[str, Any]]) -> str:
    """Render the figures as Markdown, each as a multiple of reading, too."""
    cells = []
    for row in rows:
        target = ""
        if row["job"] == "numbers":
            missed, target = row["of_reading"] > MOST_TIMES_READING, f"<= {MOST_TIMES_READING:g} x reading"
        elif row["job"] != rows[0]["job"]:
            missed, target = row["seconds"] > MOST_SECONDS, f"<= {MOST_SECONDS} s"
        verdict = f"{'MISS' if missed else 'pass'} ({target})" if target else ""
        times = f"{row['of_reading']:.2f}"
        cells.append([row["job"], f"{row['seconds']:.2f} s", times, f"{row['peak_bytes'] / 1e6:.0f} MB", verdict])
    return markdown([f"diff, {rows[0]['family']}", "wall", "of reading", "peak memory", ""], cells)


def _read(folder: str, revisions: list[str]) -> None:
    """Decode and verify all tensors of the versions, in threads, as every command reads them."""
    from git_theta_ext.cli.output import output_to_git
    from git_theta_ext.git.objects import read_manifests
    from git_theta_ext.operations.workspace import Workspace

    with Workspace.discover(output_to_git(bars=False), Path(folder)) as workspace:
        for revision in revisions:
            oid = workspace.repo.run("rev-parse", f"{revision}:{MODEL}").decode().strip()
            manifest = read_manifests(workspace.repo, {oid: MODEL})[oid]
            for _ in workspace.store.read_ahead([(each.digest, each.spec) for each in manifest.parameters.values()]):
                pass


if __name__ == "__main__":
    _read(sys.argv[1], sys.argv[2:])
