"""Find out what each tensor takes in packs, from their headers."""

from __future__ import annotations

from collections import defaultdict
from typing import TYPE_CHECKING

from git_theta_ext.records import dataclass
from git_theta_ext.store.deltas.chains import ancestors, smallest
from git_theta_ext.store.locations import in_packs, with_parts
from git_theta_ext.store.parts import chosen_bundles, parts_behind, parts_in

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping
    from collections.abc import Set as AbstractSet

    from git_theta_ext.model.tensor import Digest
    from git_theta_ext.store.locations import Location
    from git_theta_ext.store.packs.format import Entry, PackHeader


@dataclass(frozen=True)
class StoredSizes:
    """What tensors take in packs.

    Attributes:
        entries: The entry that each tensor or bundle is read from.
        chosen: Its location.
        bundles: The bundle of each tensor that is in one.
        shares: Stored bytes of these tensors: each has the share of the bundle that it has of the tensors' bytes.
    """

    entries: Mapping[Digest, Entry]
    chosen: Mapping[Digest, Location]
    bundles: Mapping[Digest, Digest]
    shares: Mapping[Digest, int]

    def size(self, digest: Digest) -> int | None:
        """Return the stored bytes of a tensor; None if it is in no pack."""
        if digest in self.shares:
            return self.shares[digest]
        return self.chosen[digest].stored if digest in self.chosen else None

    def encoding(self, digest: Digest) -> str:
        """Return the encoding of a tensor that is in a pack."""
        return self.entries[self.bundles.get(digest, digest)].encoding

    def behind(self, digest: Digest) -> list[Digest]:
        """Return what a tensor depends on, with the tensors of bundles instead of these."""
        every: dict[Digest, None] = {}
        for base in sorted(ancestors({self.bundles.get(digest, digest)}, self.chosen)):
            bundle = self.entries[base].bundle if base in self.entries else None
            every.update(dict.fromkeys([base] if bundle is None else bundle.digests()))
        return list(every)

    def spare(self, named: Iterable[Digest], reachable: AbstractSet[Digest]) -> dict[Digest, int]:
        """Return the stored bytes in bundles that are of tensors which nothing reachable needs.

        Args:
            named: The tensors that versions name.
            reachable: What these are stored as, with all that it depends on.
        """
        needed: dict[Digest, set[Digest]] = defaultdict(set)
        for digest in named:
            if digest in self.bundles:
                needed[self.bundles[digest]].add(digest)
        whole: set[Digest] = set()
        for digest in reachable:
            held = self.chosen[digest]
            if held.stored:
                whole.update(held.bases)
                continue
            bundle = self.entries[digest].bundle if held.bases and digest in self.entries else None
            gathered = () if bundle is None else bundle.digests()
            for base in held.bases:
                needed[base].update((digest, *gathered))
        spare = {}
        for name in reachable & self.entries.keys() - whole:
            entry = self.entries[name]
            if entry.bundle is not None:
                spare[name] = entry.stored - sum(size for member, size in _shares(entry) if member in needed[name])
        return spare


def _shares(entry: Entry) -> Iterator[tuple[Digest, int]]:
    """Yield the tensors of a bundle, and the share that each has of its stored bytes."""
    stored, nbytes = entry.stored, entry.spec.nbytes
    for start, spec, digest in entry.bundle.members() if entry.bundle is not None else ():
        yield digest, stored * (start + spec.nbytes) // nbytes - stored * start // nbytes


def stored_sizes(packs: Mapping[str, PackHeader]) -> StoredSizes:
    """Return what tensors take in packs, which are given by name."""
    every = [entry for header in packs.values() for entry in header.entries]
    chosen = smallest(with_parts(in_packs(packs), parts_behind(every)))
    placed = ((digest, location) for digest, location in chosen.items() if location.pack)
    entries = {digest: packs[location.pack].entries[location.entry] for digest, location in placed}
    of = {digest: tuple([name for name, _ in held]) for digest, held in parts_in(entries.values()).items()}
    choice = chosen_bundles(of, lambda _: chosen)
    bundles = {digest: choice[group] for digest, group in of.items() if group in choice}
    shares: dict[Digest, int] = {}
    for name in dict.fromkeys(bundles.values()):
        # Of several bundles of a tensor one counts, so that all shares together are the bytes of the bundles.
        shares.update((digest, size) for digest, size in _shares(entries[name]) if bundles[digest] == name)
    return StoredSizes(entries, chosen, bundles, shares)
