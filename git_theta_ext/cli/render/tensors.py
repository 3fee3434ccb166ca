"""Counts of tensors in messages."""

from __future__ import annotations

from typing import TYPE_CHECKING

from git_theta_ext.comparison.words import plural

if TYPE_CHECKING:
    from collections.abc import Collection
    from collections.abc import Set as AbstractSet

    from git_theta_ext.model.tensor import Digest


def count_tensors(digests: Collection[Digest], skeletons: AbstractSet[Digest]) -> str:
    """Count tensors as users do, who know parameters but not skeletons.

    Args:
        digests: Digests of tensors and skeletons.
        skeletons: Which are those of skeletons.

    Returns:
        The number of tensors; if there are only skeletons, that of layouts of files.
    """
    tensors = sum(digest not in skeletons for digest in digests)
    return plural(tensors, "tensor") if tensors or not digests else plural(len(digests), "file layout")
