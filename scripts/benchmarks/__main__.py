"""The command line of the benchmarks."""

from __future__ import annotations

import json
import shutil
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

from benchmarks.checkpoints import FAMILIES
from benchmarks.jobs import JOBS, measure
from benchmarks.options import parser_of
from benchmarks.report import machine, summarise, table
from benchmarks.single import OTHERS
from benchmarks.tools import LFS, PLAIN, THETA

if TYPE_CHECKING:
    import argparse
    from collections.abc import Sequence

TRAINED_JOBS = ("history", "recode")


def main(argv: Sequence[str] | None = None) -> None:
    """Run the selected benchmarks, and print and save their results.

    Args:
        argv: The arguments; None for those of the process.
    """
    arguments = parser_of([*JOBS, "all", *TRAINED_JOBS, *OTHERS]).parse_args(argv)
    about = machine()
    print(" ".join(f"{key}={value}" for key, value in about.items()), end="\n\n")
    jobs = set(JOBS) if "all" in arguments.jobs else set(arguments.jobs)
    with tempfile.TemporaryDirectory(prefix="git-theta-bench.") as folder:
        results = {"machine": about}
        if jobs & set(JOBS):
            results["families"] = _daily(arguments, jobs, Path(folder))
        if jobs & set(TRAINED_JOBS):
            results |= _large(arguments, jobs, Path(folder))
        if "merge" in arguments.jobs:
            results |= _merges(arguments, Path(folder))
        for name, run in OTHERS.items():
            if name in jobs:
                results[name] = run(arguments, Path(folder))
    if arguments.json:
        arguments.json.write_text(json.dumps(results, indent=1) + "\n")


def _daily(arguments: argparse.Namespace, jobs: set[str], folder: Path) -> list[dict[str, Any]]:
    tools = [THETA, *([LFS] if shutil.which("git-lfs") else []), *([PLAIN] if arguments.plain else [])]
    if LFS not in tools:
        print("git-lfs is not installed: no ratios (on Debian: apt-get install git-lfs)\n")
    summaries = []
    for name in arguments.family or ["bf16", "fp32"]:
        (folder / name).mkdir()
        samples = measure(FAMILIES[name], tools, jobs, arguments.repeat, folder / name)
        summaries.append(summarise(FAMILIES[name], samples))
        print(table(summaries[-1]), flush=True)
    return summaries


def _merges(arguments: argparse.Namespace, folder: Path) -> dict[str, Any]:
    from benchmarks import merging

    rows = []
    for name in arguments.family or ["fp32", "bf16"]:
        rows += merging.measure(FAMILIES[name], folder / f"merge-{name}", arguments.repeat)
    print(merging.table(rows), end="\n\n", flush=True)
    devices = merging.on_devices(arguments.side, arguments.repeat)
    print(merging.devices_table(devices), flush=True)
    return {"merges": rows, "devices": devices}


def _large(arguments: argparse.Namespace, jobs: set[str], folder: Path) -> dict[str, Any]:
    # These need torch, which the daily jobs do without.
    from benchmarks import bounds, codecs, history, recode
    from benchmarks.training import Plan, checkpoints

    plan = Plan(
        base=arguments.base,
        family=arguments.encoder,
        dtype=arguments.dtype,
        versions=arguments.versions,
        steps=arguments.steps,
        special=arguments.special,
    )
    run = checkpoints(plan, arguments.work or folder / "trained")
    results: dict[str, Any] = {}
    if "history" in jobs:
        results["history"] = history.measure(run.versions, folder, arguments.limit)
        print(history.table(results["history"]), flush=True)
    if "recode" in jobs:
        family = FAMILIES[(arguments.family or ["bf16"])[0]]
        results["encodings"] = codecs.measure(arguments.side, arguments.repeat)
        print(codecs.table(results["encodings"]), end="\n\n", flush=True)
        results["shares"] = recode.shares(run, arguments.models, folder)
        print(recode.shares_table(results["shares"]), end="\n\n", flush=True)
        results["bounds"] = bounds.measure(recode.compared(run, arguments.models))
        print(bounds.table(results["bounds"]), end="\n\n", flush=True)
        results["large"] = recode.large(family, folder)
        print(f"{family.name}\n\n{recode.large_table(results['large'])}\n", flush=True)
    return results


if __name__ == "__main__":
    main()
