"""Which tensor leans on which, kept up to date while tensors move to other parents."""

from __future__ import annotations

from collections import defaultdict
from typing import TYPE_CHECKING

from git_theta_ext.store.deltas.chains import ancestors, depths

if TYPE_CHECKING:
    from git_theta_ext.model.tensor import Digest
    from git_theta_ext.store.locations import Location


class DeltaGraph:
    """Chains, seen from both ends.

    Args:
        chosen: The location of each digest, without circles; taken over.

    Attributes:
        chosen: The same, after all moves.
        depths: How many each digest leans on, one behind another.
    """

    def __init__(self, chosen: dict[Digest, Location]) -> None:
        self.chosen = chosen
        self.depths = depths(chosen)
        self._above: dict[Digest, set[Digest]] = defaultdict(set)
        for digest, location in chosen.items():
            for base in location.bases:
                self._above[base].add(digest)

    def would_cycle(self, digest: Digest, parent: Digest) -> bool:
        """Tell whether a parent is, or leans on, the tensor that is to lean on it."""
        return digest in ancestors({parent}, self.chosen)

    def height(self, digest: Digest) -> int:
        """Return how many others lean on a tensor, one behind another."""
        height, level = 0, self._above.get(digest, set())
        while level:
            height += 1
            level = {other for each in level for other in self._above.get(each, ())}
        return height

    def move(self, digest: Digest, location: Location) -> None:
        """Let a tensor be held by another location, whose bases do not lean on it."""
        for base in self.chosen[digest].bases:
            self._above[base].discard(digest)
        self.chosen[digest] = location
        for base in location.bases:
            self._above[base].add(digest)
        for moved in self._moved(digest):
            self.depths[moved] = 1 + max((self.depths[base] for base in self.chosen[moved].bases), default=-1)

    def _moved(self, digest: Digest) -> list[Digest]:
        """Return a tensor and all that lean on it, bases before what leans on them."""
        found, todo = {digest}, {digest}
        while todo:
            todo = {other for each in todo for other in self._above.get(each, ())} - found
            found |= todo
        return sorted(found, key=lambda each: (each != digest, self.depths[each]))
