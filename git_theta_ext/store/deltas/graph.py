"""The graph of deltas and their bases, kept up to date while tensors move to other parents."""

from __future__ import annotations

from collections import defaultdict
from typing import TYPE_CHECKING

from git_theta_ext.store.deltas.chains import ancestors, chain_depth, depths, without_bytes

if TYPE_CHECKING:
    from git_theta_ext.model.tensor import Digest
    from git_theta_ext.store.locations import Location


class DeltaGraph:
    """The dependencies between tensors, in both directions.

    Args:
        chosen: The location of each digest, without cycles. The graph keeps and changes this mapping.

    Attributes:
        chosen: The location of each digest, after all moves.
        depths: The chain depth of each digest.
    """

    def __init__(self, chosen: dict[Digest, Location]) -> None:
        self.chosen = chosen
        self.depths = depths(chosen)
        self._above: dict[Digest, set[Digest]] = defaultdict(set)
        for digest, location in chosen.items():
            for base in location.bases:
                self._above[base].add(digest)

    def add(self, digest: Digest, location: Location) -> None:
        """Add what does not depend on anything that is not there yet."""
        self.chosen[digest] = location
        self.depths[digest] = chain_depth(location, self.depths, self.chosen)
        for base in location.bases:
            self._above[base].add(digest)

    def would_cycle(self, digest: Digest, parent: Digest) -> bool:
        """Return whether a tensor could not become a delta of a parent, since the parent is or depends on it."""
        location = self.chosen.get(parent)
        if location is None or not location.bases or not self._above.get(digest):  # as for most new tensors
            return digest == parent
        return digest in ancestors({parent}, self.chosen)

    def height(self, digest: Digest) -> int:
        """Return the length of the longest chain of tensors that depend on a tensor."""
        heights = {digest: 0}
        for above in self._moved(digest)[1:]:
            below = {base: heights[base] for base in self.chosen[above].bases if base in heights}
            heights[above] = chain_depth(self.chosen[above], below, self.chosen)
        return max(heights.values())

    def move(self, digest: Digest, location: Location) -> None:
        """Move a tensor to another location, whose bases do not depend on it."""
        for base in self.chosen[digest].bases:
            self._above[base].discard(digest)
        self.chosen[digest] = location
        for base in location.bases:
            self._above[base].add(digest)
        for moved in self._moved(digest):
            self.depths[moved] = chain_depth(self.chosen[moved], self.depths, self.chosen)

    def _moved(self, digest: Digest) -> list[Digest]:
        """Return a tensor and all that depend on it, bases before their deltas."""
        if not self._above.get(digest):  # as for most tensors of a model of many
            return [digest]
        moved, todo = {digest}, {digest}
        while todo:
            todo = {delta for base in todo for delta in self._above.get(base, ())} - moved
            moved |= todo
        depths, chosen = self.depths, self.chosen
        return sorted(moved, key=lambda other: (other != digest, depths[other], without_bytes(chosen[other])))
