"""Packs to hand out: they hold some tensors and nothing else, and lean on nothing that is not to be handed out."""

from __future__ import annotations

from collections import defaultdict
from typing import TYPE_CHECKING

from git_theta_ext.store.deltas.chains import ancestors, smallest
from git_theta_ext.store.locations import filtered, sound
from git_theta_ext.store.maintenance.copying import copies, whole_again
from git_theta_ext.store.packs.writer import grouped

if TYPE_CHECKING:
    from collections.abc import Set as AbstractSet

    from git_theta_ext.model.tensor import Digest
    from git_theta_ext.store.locations import Location, Locations
    from git_theta_ext.store.store import Store


def starting_within(locations: Locations, digests: AbstractSet[Digest], parents: AbstractSet[Digest]) -> Locations:
    """Leave out locations of some digests that start from a parent which is not among those given.

    Factors, the bases behind the parent, are part of the tensor.
    """
    return filtered(
        locations,
        lambda digest, location: digest not in digests or not location.bases or location.bases[0] in parents,
    )


def extract_packs(store: Store, digests: AbstractSet[Digest], there: AbstractSet[Digest]) -> set[str]:
    """Return the names of packs that hold some tensors, what these lean on, and nothing else.

    What shares its pack with others is copied out of it. What starts from a tensor that is not handed out, such as a
    version on a branch that nobody else has, is written anew: neither its bytes nor its digest leave this place.

    Args:
        store: That has them.
        digests: Those asked for; verified.
        there: Digests that are known where the packs go: leaned on, and not handed out again.

    Raises:
        MissingError: One cannot be decoded from what is here.
        StoreError: The store cannot be written.
    """
    chosen = smallest(starting_within(sound(store.locations(digests)), digests, digests | there))
    anew = digests - set(chosen)
    names = set(store.write(grouped([whole_again(store, digest) for digest in sorted(anew)]), loose=True))
    needed = ancestors(digests - anew, {d: location for d, location in chosen.items() if d not in there}) - there
    parts: dict[str, list[Location]] = defaultdict(list)
    for digest in sorted(needed):
        parts[chosen[digest].pack].append(chosen[digest])
    mixed = [name for name, held in parts.items() if len(store.reader.header(store.path_of(name)).entries) > len(held)]
    extracted = [location for name in mixed for location in parts[name]]
    return names | set(parts) - set(mixed) | set(store.write(copies(store, extracted), loose=False))
