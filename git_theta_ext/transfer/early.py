"""Find packs that can be uploaded while other tensors of the same push are still recoded."""

from __future__ import annotations

from typing import TYPE_CHECKING

from git_theta_ext.store.deltas.chains import ancestors, smallest
from git_theta_ext.store.locations import sound
from git_theta_ext.store.maintenance.combine import combined, is_small
from git_theta_ext.store.maintenance.extract import starting_within
from git_theta_ext.store.packs.writer import SMALLEST_LIMIT

if TYPE_CHECKING:
    from collections.abc import Container, Iterable, Iterator
    from collections.abc import Set as AbstractSet

    from git_theta_ext.model.tensor import Digest
    from git_theta_ext.store.locations import Location
    from git_theta_ext.store.store import Store


ENOUGH = SMALLEST_LIMIT
"""Bytes of small packs that are uploaded together."""


class FinalPacks:
    """Packs that only have tensors that are pushed, and that will not be recoded any more.

    ``extract_packs`` chooses the same packs at the end, unless another process changes the store meanwhile.

    Args:
        store: The store.
        lacking: Digests of the tensors that are pushed, which the remote lacks.
        there: Digests that the remote has.
        known: Names of packs that the remote has, or has other bytes under.
    """

    def __init__(
        self, store: Store, lacking: AbstractSet[Digest], there: Container[Digest], known: AbstractSet[str]
    ) -> None:
        self._store = store
        self.lacking = lacking
        self.there = there
        self._known = known
        self._settled: set[Digest] = set()
        self._chosen: dict[Digest, Location] = {}
        self._small: dict[str, int] = {}

    def take(self, digests: Iterable[Digest]) -> Iterator[str]:
        """Do as ``add`` does, but keep small packs back until they can be combined to a large one.

        The caller holds ``store.locks.gc_lock``.
        """
        for name in self.add(digests):
            size = self._store.path_of(name).stat().st_size
            if not is_small(size):
                yield name
                continue
            self._small[name] = size
            if sum(self._small.values()) >= ENOUGH:
                made, self._small = combined(self._store, self._small), {}
                yield from sorted(made)

    def add(self, digests: Iterable[Digest]) -> Iterator[str]:
        """Take digests of tensors that will not be recoded any more, and yield the names of packs that become final."""
        fresh = (set(digests) & self.lacking) - self._settled
        if not fresh:
            return
        self._settled |= fresh
        held = starting_within(sound(self._store.locations(fresh)), self.lacking, self.there)
        chosen = {digest: location for digest, location in smallest(held).items() if digest not in self.there}
        needed = ancestors(fresh & chosen.keys(), chosen) & chosen.keys()
        waiting = (needed & self.lacking) - self._settled  # the others are settled, or factors of deltas
        self._chosen |= {digest: at for digest, at in chosen.items() if digest in needed and digest not in waiting}
        for name in sorted({at.pack for digest, at in chosen.items() if digest in fresh} - self._known):
            entries = self._store.reader.header(self._store.path_of(name)).entries
            places = (self._chosen.get(entry.digest) for entry in entries)
            if all(place is not None and place.pack == name for place in places):
                yield name
