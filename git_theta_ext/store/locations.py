"""Locations: the entries of packs that claim to hold a tensor or a skeleton, and whether they do."""

from __future__ import annotations

from enum import IntEnum
from typing import TYPE_CHECKING

from git_theta_ext.records import NamedTuple

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping
    from collections.abc import Set as AbstractSet

    from git_theta_ext.model.tensor import Digest
    from git_theta_ext.store.packs.format import Entry, PackHeader


class Verdict(IntEnum):
    """What decoding an entry of a pack has shown. The index stores these numbers."""

    UNKNOWN = 0
    SOUND = 1
    BAD = 2


class Location(NamedTuple):
    """An entry of a pack that claims to hold a digest, or a part of a bundle that does, in a pack without a name.

    It is a tuple, because a push of a model of many tensors makes several for each.

    Attributes:
        root: The root of the store that has the pack.
        pack: The pack's name.
        entry: The entry's number in the pack; of a part, its first byte in the bundle.
        stored: Stored size in bytes.
        bases: Digests of the tensors that the entry is a delta of.
        verdict: Whether the entry decodes to the digest, given the tensors that its bases name.
    """

    root: str
    pack: str
    entry: int
    stored: int
    bases: tuple[Digest, ...] = ()
    verdict: Verdict = Verdict.UNKNOWN

    @property
    def pack_id(self) -> tuple[str, str]:
        """Root and name of the pack."""
        return self.root, self.pack


Copy = tuple["Digest", Location]
"""A stored copy of a tensor: its digest and one of its locations."""

Locations = dict["Digest", "tuple[Location, ...]"]
"""The locations of each digest. A digest without locations is left out."""


def in_pack(root: str, name: str, entries: Iterable[Entry]) -> list[Copy]:
    """Return digest and location of each entry of a pack, given in order."""
    return [
        (entry.digest, Location(root, name, number, entry.stored, entry.bases)) for number, entry in enumerate(entries)
    ]


def in_packs(
    headers: Mapping[str, PackHeader],
    local: Iterable[Digest] = (),
    *,
    bad: AbstractSet[tuple[str, Digest]] = frozenset(),
) -> Locations:
    """Return the locations of all entries of some packs.

    Args:
        headers: Of the packs, by name.
        local: Digests that are available besides. Their locations are in a pack without a name.
        bad: Pack name and digest of entries to leave out.
    """
    entries = [copy for name, header in headers.items() for copy in in_pack("", name, header.entries)]
    available = [(digest, Location("", "", 0, 0)) for digest in local]
    if bad:
        entries = [(digest, location) for digest, location in entries if (location.pack, digest) not in bad]
    return by_digest([*available, *entries])


def by_digest(copies: Iterable[Copy]) -> Locations:
    """Group locations by their digests."""
    groups: dict[Digest, list[Location]] = {}
    for digest, location in copies:
        groups.setdefault(digest, []).append(location)
    return {digest: tuple(several) for digest, several in groups.items()}


def filtered(locations: Mapping[Digest, Iterable[Location]], keep: Callable[[Digest, Location], object]) -> Locations:
    """Return the locations for which ``keep`` returns a true value."""
    kept = {digest: tuple(at for at in several if keep(digest, at)) for digest, several in locations.items()}
    return {digest: several for digest, several in kept.items() if several}


def flattened(locations: Mapping[Digest, Iterable[Location]]) -> Iterator[Copy]:
    """Yield each location with its digest."""
    for digest, several in locations.items():
        for location in several:
            yield digest, location


def with_parts(locations: Locations, parts: Mapping[Digest, Iterable[tuple[Digest, int]]]) -> Locations:
    """Return locations, and those of tensors in bundles: in a pack without a name, with the bundle as their base.

    Args:
        locations: Locations of entries of packs.
        parts: The bundles that tensors are in, and the position of each tensor in them.
    """
    if not parts:
        return locations
    found = dict(locations)
    for digest, several in parts.items():
        held = [Location("", "", start, 0, (bundle,), Verdict.SOUND) for bundle, start in several]
        found[digest] = (*found.get(digest, ()), *held)
    return found


def pack_ids(locations: Mapping[Digest, Iterable[Location]]) -> set[tuple[str, str]]:
    """Return root and name of the packs that some locations are in."""
    packs: set[tuple[str, str]] = set()
    root = pack = None
    for several in locations.values():
        for location in several:
            if location.pack is not pack or location.root is not root:  # neighbours are often in the same pack
                root, pack = location.root, location.pack
                packs.add((root, pack))
    return packs


def only(locations: Locations, *verdicts: Verdict) -> Locations:
    """Return the locations that have one of some verdicts."""
    if {location.verdict for several in locations.values() for location in several} <= {*verdicts}:
        return locations
    kept: Locations = {}
    for digest, several in locations.items():
        chosen = several
        if len(several) != 1 or several[0].verdict not in verdicts:  # most tensors have one location, which is kept
            chosen = tuple([location for location in several if location.verdict in verdicts])
        if chosen:
            kept[digest] = chosen
    return kept


def usable(locations: Locations) -> Locations:
    """Return the locations that are not known to be bad."""
    return only(locations, Verdict.UNKNOWN, Verdict.SOUND)


def sound(locations: Locations) -> Locations:
    """Return the locations that were verified."""
    return only(locations, Verdict.SOUND)
