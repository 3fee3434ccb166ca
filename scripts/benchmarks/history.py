"""Measure what each tool takes to store a history of many versions of the same files."""

from __future__ import annotations

import shutil
import statistics
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from benchmarks.peers import PEERS, Keeper
from benchmarks.report import markdown
from benchmarks.tools import digest

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from benchmarks.peers import Peer


@dataclass(frozen=True)
class Kept:
    """The results of one tool for a history.

    Attributes:
        tool: Name of the tool.
        raw_bytes: Size of all versions in bytes.
        added: Seconds to add and commit each version.
        stored_first: Size of the store in bytes before the first compaction, for a tool that only compacts at the end.
        stored: Size of the store in bytes at the end.
        tidied: Seconds of all compactions; None if they exceeded the time limit.
        restored: Seconds to restore the oldest, middle and newest version.
    """

    tool: str
    raw_bytes: int
    added: list[float]
    stored_first: int
    stored: int
    tidied: float | None
    restored: tuple[float, float, float]

    def row(self) -> dict[str, Any]:
        """Return the figures of a report."""
        return {
            "tool": self.tool,
            "stored_before_gc": self.stored_first,
            "stored": self.stored,
            "of_raw": self.stored / self.raw_bytes,
            "bytes_a_version": self.stored / len(self.added),
            "add_seconds": self.added,
            "gc_seconds": self.tidied,
            "checkout_seconds": dict(zip(("oldest", "middle", "newest"), self.restored, strict=True)),
        }


def measure(versions: Sequence[Path], folder: Path, limit: float) -> dict[str, Any]:
    """Store the versions with each tool that is installed, one after another.

    Args:
        versions: Checkpoints, oldest first.
        folder: The folder to work in.
        limit: Time limit of a compaction, in seconds.

    Raises:
        RuntimeError: A tool failed, or restored a different file.
    """
    present = [peer for peer in PEERS if peer.present]
    return {
        "versions": len(versions),
        "raw_bytes": sum(path.stat().st_size for path in versions),
        "left_out": [peer.name for peer in PEERS if peer not in present],
        "rows": [_keep(peer, versions, folder / "kept", limit).row() for peer in present],
    }


def _keep(peer: Peer, versions: Sequence[Path], folder: Path, limit: float) -> Kept:
    keeper = Keeper(peer, folder, limit)
    added: list[float] = []
    tidied: list[float | None] = []
    for number, version in enumerate(versions):
        added.append(keeper.add(number, version))
        if peer.often and (number + 1) % peer.often == 0:
            tidied.append(keeper.tidy())
    first = keeper.stored()
    tidied.append(keeper.tidy())
    seconds = None if None in tidied else sum(s for s in tidied if s is not None)
    raw = sum(path.stat().st_size for path in versions)
    oldest, middle, newest = (_restore(keeper, versions, n) for n in (0, len(versions) // 2, len(versions) - 1))
    kept = Kept(peer.name, raw, added, first, keeper.stored(), seconds, (oldest, middle, newest))
    shutil.rmtree(folder)
    return kept


def _restore(keeper: Keeper, versions: Sequence[Path], number: int) -> float:
    for _ in range(2):  # the first iteration warms the page cache
        seconds, file = keeper.restore(number)
        if digest(file) != digest(versions[number]):
            raise RuntimeError(f"{keeper.peer.name} did not bring version {number} back")
    return seconds


def table(results: dict[str, Any]) -> str:
    """Render the figures as Markdown."""
    lines = [f"{results['versions']} versions, {results['raw_bytes'] / 1e6:.0f} MB in all"]
    if results["left_out"]:
        lines.append(f"not installed, left out: {', '.join(results['left_out'])}")
    columns = ["tool", "stored", "of raw", "a version", "before gc", "add, median", "gc", "oldest", "middle", "newest"]
    rows = [
        [
            row["tool"],
            f"{row['stored'] / 1e6:.1f} MB",
            f"{row['of_raw']:.4f}",
            f"{row['bytes_a_version'] / 1e6:.2f} MB",
            f"{row['stored_before_gc'] / 1e6:.1f} MB",
            f"{statistics.median(row['add_seconds']):.2f} s",
            "given up" if row["gc_seconds"] is None else f"{row['gc_seconds']:.1f} s",
            *(f"{seconds:.2f} s" for seconds in row["checkout_seconds"].values()),
        ]
        for row in results["rows"]
    ]
    return "\n".join([*lines, "", markdown(columns, rows), ""])
