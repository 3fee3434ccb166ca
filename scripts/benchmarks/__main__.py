"""Command line of the benchmark."""

from __future__ import annotations

import argparse
import json
import shutil
import tempfile
from pathlib import Path

from benchmarks.checkpoints import FAMILIES
from benchmarks.jobs import JOBS, measure
from benchmarks.report import machine, summarise, table
from benchmarks.tools import LFS, PLAIN, THETA


def main() -> None:
    """Measure and report."""
    parser = argparse.ArgumentParser(prog="scripts/bench", description="Measure git-theta against git-lfs.")
    parser.add_argument("jobs", nargs="*", choices=[*JOBS, "all"], default="all", help="what to measure (all)")
    parser.add_argument("--family", action="append", choices=sorted(FAMILIES), help="checkpoints (bf16 and fp32)")
    parser.add_argument("--repeat", type=int, default=3, metavar="N", help="repetitions; medians are shown (3)")
    parser.add_argument("--plain", action="store_true", help="also plain git, which takes minutes")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write all samples there")
    arguments = parser.parse_args()
    jobs = set(JOBS) if "all" in arguments.jobs else set(arguments.jobs)
    tools = [THETA, *([LFS] if shutil.which("git-lfs") else []), *([PLAIN] if arguments.plain else [])]
    about = machine()
    print(" ".join(f"{key}={value}" for key, value in about.items()), end="\n\n")
    if LFS not in tools:
        print("git-lfs is not installed: no ratios (on Debian: apt-get install git-lfs)\n")
    summaries = []
    for name in arguments.family or ["bf16", "fp32"]:
        with tempfile.TemporaryDirectory(prefix="git-theta-bench.") as place:
            samples = measure(FAMILIES[name], tools, jobs, arguments.repeat, Path(place))
        summaries.append(summarise(FAMILIES[name], samples))
        print(table(summaries[-1]), flush=True)
    if arguments.json:
        arguments.json.write_text(json.dumps({"machine": about, "families": summaries}, indent=1) + "\n")


if __name__ == "__main__":
    main()
