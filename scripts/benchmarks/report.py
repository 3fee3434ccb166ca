"""Report medians and targets, as a table and as JSON."""

from __future__ import annotations

import datetime as dt
import os
import platform
import shutil
import statistics
import subprocess
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Sequence

    from benchmarks.checkpoints import Family
    from benchmarks.jobs import Samples

SHARE_OF_LFS = {
    "first add": 0.5,
    "git theta add": 0.35,
    "add, one tensor changed": 0.25,
    "status after touch": 0.25,
    "checkout of another version": 0.4,
}
"""The target for git-theta, as a share of what git-lfs takes."""

STORED = {"BF16": 0.67, "F32": 0.83}
"""The target for stored bytes, as a share of the raw bytes."""


def machine() -> dict[str, Any]:
    """Describe the machine and the versions of the tools."""
    lfs = subprocess.run(["git", "lfs", "version"], capture_output=True, text=True, check=False).stdout.strip()
    return {
        "date": dt.datetime.now(dt.timezone.utc).isoformat(timespec="seconds"),
        "cpus": os.cpu_count(),
        "processor": _processor(),
        "system": platform.platform(),
        "python": platform.python_version(),
        "git": subprocess.run(["git", "--version"], capture_output=True, text=True, check=True).stdout.split()[2],
        "git_lfs": lfs if shutil.which("git-lfs") else None,
        "load_average": os.getloadavg()[0],
    }


def _processor() -> str:
    with open("/proc/cpuinfo", encoding="utf-8") as file:  # noqa: PTH123 - a device file, not a path to manage
        return next((line.split(": ")[1].strip() for line in file if line.startswith("model name")), "unknown")


def summarise(family: Family, samples: Samples) -> dict[str, Any]:
    """Compute medians and ratios from samples, and compare them with the targets."""
    medians = {key: statistics.median(figures) for key, figures in samples.figures.items()}
    rows = []
    for measure, tool in sorted(medians):
        row: dict[str, Any] = {"measure": measure, "tool": tool, "median": medians[measure, tool]}
        row["samples"] = samples.figures[measure, tool]
        peer = medians.get(("first add" if measure == "git theta add" else measure, "git-lfs"))
        if peer and measure != "stored":
            row["of_git_lfs"] = row["median"] / peer
        if tool == "git-theta":
            row |= _verdict(measure, family, row, samples.raw_bytes)
        rows.append(row)
    return {"family": family.name, "raw_bytes": samples.raw_bytes, "rows": rows}


def _verdict(measure: str, family: Family, row: dict[str, Any], raw_bytes: int) -> dict[str, Any]:
    if measure == "stored":
        row["of_raw"] = row["median"] / raw_bytes
        target, value = STORED[family.dtype], row["of_raw"]
    elif measure == "cleans in first status after checkout":
        target, value = 0, row["median"]
    elif measure in SHARE_OF_LFS and "of_git_lfs" in row:
        target, value = SHARE_OF_LFS[measure], row["of_git_lfs"]
    else:
        return {}
    return {"target": target, "passed": value <= target}


def table(summary: dict[str, Any]) -> str:
    """Render the results of a family as Markdown."""
    rows = [
        [
            row["measure"],
            row["tool"],
            _figure(row["measure"], row["median"], row.get("of_raw")),
            f"{row['of_git_lfs']:.2f}" if "of_git_lfs" in row else "",
            f"<= {row['target']}" if "target" in row else "",
            {True: "pass", False: "MISS"}.get(row.get("passed"), ""),
        ]
        for row in summary["rows"]
    ]
    columns = ["measure", "tool", "median", "of git-lfs", "target", ""]
    return f"{summary['family']}, {summary['raw_bytes'] / 1e6:.0f} MB\n\n{markdown(columns, rows)}\n"


def _figure(measure: str, median: float, of_raw: float | None) -> str:
    if measure == "stored":
        share = f" ({of_raw:.3f} of raw)" if of_raw is not None else ""
        return f"{median / 1e6:.1f} MB{share}"
    return f"{median:.0f}" if measure.startswith("cleans") else f"{median:.2f} s"


def markdown(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Render a table."""
    lines = [columns, ["---"] * len(columns), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)
