"""Find out which tensors of a store are needed, and which packs they are read from."""

from __future__ import annotations

from collections import defaultdict
from contextlib import suppress
from functools import partial
from typing import TYPE_CHECKING

from git_theta_ext.records import dataclass
from git_theta_ext.store.deltas.chains import ancestors, smallest, sound_first
from git_theta_ext.store.locations import filtered, flattened

if TYPE_CHECKING:
    from collections.abc import Mapping
    from collections.abc import Set as AbstractSet

    from git_theta_ext.model.tensor import Digest
    from git_theta_ext.store.locations import Location, Locations
    from git_theta_ext.store.store import Store


@dataclass(frozen=True)
class Needs:
    """What is needed of the packs of a store, and where it is read from.

    Attributes:
        chosen: The location that each digest is read from.
        needed: The digests that manifests name or that are young, with all that they depend on.
        nameless: Those that no manifest needs.
        held: The digests in each pack of the store, by its name.
        filled: The bytes of the entries in each pack.
        sizes: The bytes of each pack, and when it was last used.
        spared: Names of packs that are kept in any case.
        replaced: Bundles whose tensors have been, or would be, stored again.
    """

    chosen: Mapping[Digest, Location]
    needed: AbstractSet[Digest]
    nameless: AbstractSet[Digest]
    held: Mapping[str, AbstractSet[Digest]]
    filled: Mapping[str, int]
    sizes: Mapping[str, tuple[int, float]]
    spared: AbstractSet[str]
    replaced: AbstractSet[Digest] = frozenset()


def needs_of(  # noqa: PLR0913, PLR0917 - all of them describe what is needed
    store: Store,
    live: AbstractSet[Digest],
    older_than: float,
    planned: Mapping[Digest, Location],
    depth: int,
    replaced: AbstractSet[Digest],
) -> Needs:
    """Find out what is needed of the packs of a store; see ``gc.find_garbage`` for the arguments."""
    choose = partial(smallest, depth=depth)
    sizes, present = _on_disk(store)
    # Packs that are not in the index, such as those of a newer version, are left alone.
    recorded = _present(store, present)
    own = _in_root(store, recorded)
    by_pack: dict[str, set[Digest]] = defaultdict(set)
    filled: dict[str, int] = defaultdict(int)
    for digest, location in flattened(own):
        by_pack[location.pack].add(digest)
        filled[location.pack] += location.stored
    young = {digest for name, digests in by_pack.items() if sizes[name][1] >= older_than for digest in digests}
    young -= replaced
    # An unverified location must not replace a verified one.
    if not store.all_proven():
        store.prove((live | young) & set(own), choose)
        recorded = _present(store, present)
    usable = store.usable(recorded)
    locations = store.with_parts_behind(_without(replaced, usable, planned) if replaced else usable)
    # A tensor is kept here even if an alternate has it too, since the alternate's owner may remove it.
    mine = _in_root(store, locations)
    chosen = sound_first(locations, choose)
    if mine is not locations:
        chosen |= sound_first(mine, choose)
    chosen |= planned
    return Needs(
        chosen=chosen,
        needed=ancestors((live | young) & set(chosen), chosen),
        nameless=young - ancestors(live & set(chosen), chosen),
        held=by_pack,
        filled=filled,
        sizes=sizes,
        spared=_packs_of_all(own, (live | young) - set(chosen)),
        replaced=replaced,
    )


def _present(store: Store, packs: AbstractSet[tuple[str, str]]) -> Locations:
    """Return the recorded locations, also bad ones, in some packs, given by root and name."""
    locations = store.index.all_locations()
    if store.index.packs() <= packs:
        return locations
    return filtered(locations, lambda _, location: location.pack_id in packs)


def _without(replaced: AbstractSet[Digest], locations: Locations, planned: Mapping[Digest, Location]) -> Locations:
    """Leave out some bundles and what is made of them, and add what a dry run takes to be there instead."""
    left = filtered(locations, lambda digest, at: digest not in replaced and replaced.isdisjoint(at.bases))
    return left | {digest: (*left.get(digest, ()), at) for digest, at in planned.items()}


def _in_root(store: Store, locations: Locations) -> Locations:
    """Return those of some locations that are in a store itself; the same object if it has no alternates."""
    root = str(store.root)
    if store.roots == [store.root] and all(
        at.root == root or not at.pack for several in locations.values() for at in several
    ):
        return locations
    return filtered(locations, lambda _, location: location.root == root or not location.pack)


def _on_disk(store: Store) -> tuple[dict[str, tuple[int, float]], set[tuple[str, str]]]:
    sizes: dict[str, tuple[int, float]] = {}
    present: set[tuple[str, str]] = set()
    for root, path in store.pack_files():
        with suppress(FileNotFoundError):
            stat = path.stat()
            present.add((str(root), path.name))
            if root == store.root:
                sizes[path.name] = (stat.st_size, stat.st_mtime)
    return sizes, present


def _packs_of_all(own: Locations, stranded: AbstractSet[Digest]) -> set[str]:
    """Return the packs of tensors that cannot be decoded now, since their missing bases may come back."""
    names: set[str] = set()
    seen: set[Digest] = set()
    todo = set(stranded)
    while todo:
        seen |= todo
        held = [location for digest in todo for location in own.get(digest, ())]
        names.update(location.pack for location in held)
        todo = {base for location in held for base in location.bases} - seen
    return names
