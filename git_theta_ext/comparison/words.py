"""Format numbers, shares and tables for the output of commands and diffs."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence
    from collections.abc import Set as AbstractSet

    from git_theta_ext.model.tensor import Digest

_THOUSAND = 1000


def human_bytes(count: int) -> str:
    """Format a number of bytes with three digits and a decimal unit."""
    if count < _THOUSAND:
        return f"{count} B"
    size = float(count)
    for unit in ("kB", "MB", "GB"):
        size /= _THOUSAND
        if size < _THOUSAND:
            return f"{size:.3g} {unit}" if size < _THOUSAND - 0.5 else f"{size:.0f} {unit}"
    return f"{size / _THOUSAND:.3g} TB"


def percent(share: float | None) -> str:
    """Format a share as a percentage with three digits; None is empty, and infinity is ``all new``."""
    if share is None:
        return ""
    return f"{100 * share:.3g} %" if math.isfinite(share) else "all new"


def aligned(rows: Sequence[Sequence[str]]) -> list[str]:
    """Return the indented lines of a table whose columns are as wide as their longest cell."""
    widths = [max(len(row[number]) for row in rows) for number in range(len(rows[0]))]
    return ["  " + "  ".join(c.ljust(w) for c, w in zip(row, widths, strict=True)).rstrip() for row in rows]


def plural(count: int, noun: str) -> str:
    """Return a number and a noun, with a plural s if needed."""
    return f"{count} {noun}" if count == 1 else f"{count} {noun}s"


def count_tensors(digests: Collection[Digest], skeletons: AbstractSet[Digest]) -> str:
    """Count tensors as users do, who know parameters but not skeletons.

    Args:
        digests: Digests of tensors and skeletons.
        skeletons: Which are those of skeletons.

    Returns:
        The number of tensors; if there are only skeletons, that of layouts of files.
    """
    tensors = len(digests) - sum(map(skeletons.__contains__, digests))
    return plural(tensors, "tensor") if tensors or not digests else plural(len(digests), "file layout")


def shorten(text: str, width: int) -> str:
    """Cut off the beginning of a name that is longer than ``width`` characters.

    Names of a model begin alike: cut in the middle, those of different modules would look the same.
    """
    return text if len(text) <= width else f"…{text[len(text) - width + 1 :]}"


def listed(words: Sequence[str]) -> str:
    """Join words by commas, and the last one by "and"."""
    return " and ".join(filter(None, [", ".join(words[:-1]), words[-1]]))
