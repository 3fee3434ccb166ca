"""What the formats of tree ensembles have in common: some trees that follow each other are one tensor of bytes.

The values of a tree mean nothing without its structure, so a tree is not divided. Trees are grouped because each by
itself is compressed badly.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from git_theta_ext.interfaces import Extent, NotSplittable, TensorSpec

from ._fixed_rest import FixedRest

if TYPE_CHECKING:
    from collections.abc import Iterable

    from git_theta_ext.interfaces import Content

_TOGETHER = 16
"""How many trees are one tensor. It must never change: unchanged files would be stored again."""
_LARGEST = 1 << 26


class TreeFormat(FixedRest):
    """Groups the trees of an ensemble. A version is merged as a whole."""

    rest = "rest"
    mergeable = False


def whole(data: Content) -> memoryview:
    """Return the bytes of a file.

    Raises:
        NotSplittable: It is large. Chunks are a small part of it then.
    """
    if data.nbytes > _LARGEST:
        raise NotSplittable(f"it has more than {_LARGEST >> 20} MiB")
    return data[:]


def groups(trees: Iterable[tuple[int, int]]) -> list[Extent]:
    """Return the groups of some trees, named by their first one.

    Args:
        trees: Where each tree begins and ends, in file order.

    Raises:
        NotSplittable: There are none.
    """
    places = list(trees)
    if not places:
        raise NotSplittable("it has no trees")
    made = []
    for first in range(0, len(places), _TOGETHER):
        start, end = places[first][0], places[min(first + _TOGETHER, len(places)) - 1][1]
        made.append(Extent(f"trees.{first:06}", TensorSpec.of("U8", (end - start,)), start))
    return made
