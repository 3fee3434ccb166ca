"""What a history of many versions costs to keep, in each tool, on the same files."""

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
    """What one tool did with a history.

    Attributes:
        tool: Its name.
        raw_bytes: Of all versions.
        added: Seconds for each version to be added and committed.
        stored_first: Bytes before anything was tidied up, of a tool that does so at the end only.
        stored: Bytes at the end.
        tidied: Seconds of all that tidying up, or None where it was given up.
        restored: Seconds to bring back the oldest, middle and newest version.
    """

    tool: str
    raw_bytes: int
    added: list[float]
    stored_first: int
    stored: int
    tidied: float | None
    restored: tuple[float, float, float]

    def row(self) -> dict[str, Any]:
        """Return the figures for a report."""
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


def measure(versions: Sequence[Path], place: Path, limit: float, peers: Sequence[Peer] = PEERS) -> dict[str, Any]:
    """Give the versions to each tool that is installed, one after another.

    Args:
        versions: Checkpoints, oldest first.
        place: Folder to work in.
        limit: Seconds after which tidying up is given up.
        peers: Which tools.

    Raises:
        RuntimeError: A tool failed, or brought another file back.
    """
    present = [peer for peer in peers if peer.present]
    return {
        "versions": len(versions),
        "raw_bytes": sum(path.stat().st_size for path in versions),
        "left_out": [peer.name for peer in peers if peer not in present],
        "rows": [_keep(peer, versions, place / "kept", limit).row() for peer in present],
    }


def _keep(peer: Peer, versions: Sequence[Path], place: Path, limit: float) -> Kept:
    keeper = Keeper(peer, place, limit)
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
    shutil.rmtree(place)
    return kept


def _restore(keeper: Keeper, versions: Sequence[Path], number: int) -> float:
    for _ in range(2):  # the first one warms the page cache
        seconds, file = keeper.restore(number)
        if digest(file) != digest(versions[number]):
            raise RuntimeError(f"{keeper.peer.name} did not bring version {number} back")
    return seconds


def table(found: dict[str, Any]) -> str:
    """Render the figures as Markdown."""
    lines = [f"{found['versions']} versions, {found['raw_bytes'] / 1e6:.0f} MB in all"]
    if found["left_out"]:
        lines.append(f"not installed, left out: {', '.join(found['left_out'])}")
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
        for row in found["rows"]
    ]
    return "\n".join([*lines, "", markdown(columns, rows), ""])
