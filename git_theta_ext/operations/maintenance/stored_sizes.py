"""Find out what each tensor takes in packs, from their headers."""

from __future__ import annotations

from typing import TYPE_CHECKING

from git_theta_ext.records import dataclass
from git_theta_ext.store.deltas.chains import ancestors, smallest
from git_theta_ext.store.locations import in_packs, with_parts
from git_theta_ext.store.parts import chosen_bundles, parts_behind, parts_in

if TYPE_CHECKING:
    from collections.abc import Mapping

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
            every.update(dict.fromkeys([base] if bundle is None else [member for _, _, member in bundle.members()]))
        return list(every)


def stored_sizes(packs: Mapping[str, PackHeader]) -> StoredSizes:
    """Return what tensors take in packs, which are given by name."""
    every = [entry for header in packs.values() for entry in header.entries]
    chosen = smallest(with_parts(in_packs(packs), parts_behind(every)))
    placed = ((digest, location) for digest, location in chosen.items() if location.pack)
    entries = {digest: packs[location.pack].entries[location.entry] for digest, location in placed}
    bundles = chosen_bundles(parts_in(entries.values()), lambda _: chosen)
    shares: dict[Digest, int] = {}
    for name in dict.fromkeys(bundles.values()):
        bundle, stored = entries[name].bundle, chosen[name].stored
        for start, spec, digest in bundle.members() if bundle is not None else ():
            if bundles[digest] == name:  # so that all shares together are the bytes of the bundle
                nbytes = entries[name].spec.nbytes
                shares[digest] = stored * (start + spec.nbytes) // nbytes - stored * start // nbytes
    return StoredSizes(entries, chosen, bundles, shares)
