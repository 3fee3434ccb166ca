"""Store bundles of which most is not needed again without the rest, which is removed or grows old on its own."""

from __future__ import annotations

from collections import defaultdict
from types import MappingProxyType
from typing import TYPE_CHECKING

from git_theta_ext.records import dataclass, field, replace
from git_theta_ext.store.deltas.chains import MAX_CHAIN, ancestors, shallowest
from git_theta_ext.store.index_bundles import member_counts
from git_theta_ext.store.locations import Location, Verdict, sound
from git_theta_ext.store.maintenance.gc import find_garbage, worth_copying
from git_theta_ext.store.maintenance.needs import needs_of
from git_theta_ext.store.maintenance.rebundle import taken_out
from git_theta_ext.store.maintenance.remains import Remains, made_anew, planned_locations, remains_of
from git_theta_ext.store.packs.blobs import empty_blob
from git_theta_ext.store.packs.format import GATHERED, Entry
from git_theta_ext.store.packs.writer import grouped
from git_theta_ext.store.parts import FEWEST

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from collections.abc import Set as AbstractSet

    from git_theta_ext.model.bundle import Bundle
    from git_theta_ext.model.tensor import Digest
    from git_theta_ext.store.maintenance.gc import Garbage
    from git_theta_ext.store.maintenance.needs import Needs
    from git_theta_ext.store.packs.blobs import NewBlob
    from git_theta_ext.store.store import Store


@dataclass(frozen=True)
class Shrinking:
    """Bundles that are worth storing again without some of their tensors.

    Attributes:
        remains: What is stored instead of each bundle.
        above: The parts and gathered bundles that are made of these, by digest, as they are made of what replaces them.
        planned: Locations of all this, in a pack without a name.
    """

    remains: Mapping[Digest, Remains] = field(default_factory=dict)
    above: Mapping[Digest, Entry] = field(default_factory=dict)
    planned: Mapping[Digest, Location] = field(default_factory=dict)

    @property
    def replaced(self) -> AbstractSet[Digest]:
        """The bundles."""
        return self.remains.keys()

    def with_more(self, more: Shrinking) -> Shrinking:
        """Return this with what was found for it as well."""
        planned = {**self.planned, **more.planned}
        # What is gathered may have become what is left of the next bundle.
        above = {digest: entry for digest, entry in self.above.items() if planned[digest].bases}
        return Shrinking({**self.remains, **more.remains}, {**above, **more.above}, planned)

    @property
    def nbytes(self) -> int:
        """Stored bytes of what replaces them, about."""
        left = sum(one.ratio * spec.nbytes for one in self.remains.values() for spec, _ in one.left)
        return int(left) + sum(location.stored for location in self.planned.values())


def shrunk_garbage(  # noqa: PLR0913 - named
    store: Store,
    named: AbstractSet[Digest],
    older_than: float,
    planned: Mapping[Digest, Location] = MappingProxyType({}),
    depth: int = MAX_CHAIN,
    *,
    dry_run: bool = False,
) -> tuple[Garbage, Shrinking]:
    """Store bundles of which most is not needed again without that, and find the packs that are not needed then.

    Args:
        store: As for ``find_garbage``.
        named: The tensors and skeletons that manifests name.
        older_than: As for ``find_garbage``.
        planned: As for ``find_garbage``.
        depth: As for ``find_garbage``.
        dry_run: Write nothing.

    Raises:
        StoreError: The store cannot be written; no data is lost.
    """
    garbage = find_garbage(store, store.with_bundles(named), older_than, planned, depth)
    if garbage.needs is None:
        return garbage, Shrinking()
    shrinking = plan_shrinking(store, garbage.needs, named, older_than, planned, depth)
    if not shrinking.replaced:
        return garbage, shrinking
    if dry_run:
        planned = {**planned, **shrinking.planned}
    else:
        shrink(store, shrinking)
    live = store.with_bundles(named, shrinking.replaced) | shrinking.planned.keys()
    again = find_garbage(store, live, older_than, planned, depth, replaced=shrinking.replaced)
    # What another process has used since the first look may have become needed.
    return replace(again, seen=garbage.seen), shrinking


def plan_shrinking(  # noqa: PLR0913, PLR0917 - those of shrunk_garbage, and what it has found
    store: Store,
    needs: Needs,
    named: AbstractSet[Digest],
    older_than: float,
    planned: Mapping[Digest, Location] = MappingProxyType({}),
    depth: int = MAX_CHAIN,
) -> Shrinking:
    """Find the bundles of a store that are worth storing again without the tensors that nothing needs.

    Args:
        store: The store.
        needs: What is needed of it.
        named: As for ``shrunk_garbage``.
        older_than: As for ``find_garbage``.
        planned: As for ``find_garbage``.
        depth: As for ``find_garbage``.
    """
    done = Shrinking()
    # If less of a bundle is needed, less may be needed of what it depends on.
    while (more := _more(store, needs, named, older_than, done)).replaced:
        done = done.with_more(more)
        live = store.with_bundles(named, done.replaced) | done.planned.keys()
        needs = needs_of(store, live, older_than, {**planned, **done.planned}, depth, done.replaced)
    return done


def _more(store: Store, needs: Needs, named: AbstractSet[Digest], older_than: float, done: Shrinking) -> Shrinking:
    """Find the bundles that can be stored again, if some are already, and on which no others of them depend."""
    partly = _partly_needed(store, needs, store.stored_as(named, without=done.replaced))
    if not partly:
        return Shrinking()
    above: dict[Digest, list[Digest]] = defaultdict(list)
    for digest in needs.needed:
        for base in partly.keys() & {*needs.chosen[digest].bases}:
            above[base].append(digest)
    found: dict[Digest, Remains] = {}
    made: dict[Digest, Entry] = {}
    for name, read in sorted(partly.items()):
        bundle = _bundle(store, needs, name)
        parts = None if bundle is None else _made_of(store, needs, bundle, above[name], done.above)
        if bundle is not None and parts is not None:
            entries, wanted = parts
            young = any(needs.sizes[pack][1] >= older_than for pack, held in needs.held.items() if name in held)
            gathered = any(entry.encoding == GATHERED for entry in entries)
            one = remains_of(bundle, needs.chosen[name], read | wanted, young=young, gathered=gathered)
            if one is not None:
                found[name] = one
                made.update((entry.digest, entry) for entry in entries)
    remains = _once(store, needs, _first(needs, _worthwhile(needs, found)))
    above_these = (entry for entry in made.values() if not remains.keys().isdisjoint(entry.bases))
    anew = [entry for entry in (made_anew(entry, remains) for entry in above_these) if entry is not None]
    planned = planned_locations(str(store.root), remains, anew)
    return Shrinking(remains, {entry.digest: entry for entry in anew}, planned)


def shrink(store: Store, shrinking: Shrinking) -> None:
    """Write what replaces some bundles. It is verified, and may be relied on, on return.

    Raises:
        CorruptError: A bundle is damaged.
        MissingError: A bundle cannot be read.
        StoreError: The store cannot be written.
    """
    blobs = store.blobs(shrinking.replaced)
    kept: dict[Digest, NewBlob] = {}
    left: dict[Digest, NewBlob] = {}
    for name, one in shrinking.remains.items():
        for blob in taken_out(store, blobs, name, one.kept, alone=one.alone):
            kept[blob.digest] = blob
        for blob in taken_out(store, blobs, name, one.left, alone=len(one.left) < FEWEST):
            left[blob.digest] = blob
    held = shallowest(sound(store.locations({*kept, *left})))
    there = {digest for digest, at in held.items() if at.pack and at.stored and at.root == str(store.root)}
    named = [
        *(blob for digest, blob in kept.items() if digest not in there),
        *map(empty_blob, shrinking.above.values()),
    ]
    # In packs of their own: next to tensors that are in use they would never grow old.
    others = [blob for digest, blob in left.items() if digest not in there and digest not in kept]
    store.write([*grouped(named), *grouped(others)], loose=False)


def _partly_needed(store: Store, needs: Needs, stored: Mapping[Digest, Digest]) -> dict[Digest, set[Digest]]:
    """Return the bundles that have tensors which no manifest names, or which are read from others; and the rest."""
    counts = member_counts(store.index.rows)
    read: dict[Digest, set[Digest]] = {name: set() for name in (needs.needed & counts.keys()) - needs.nameless}
    for digest, bundle in stored.items():
        if bundle in read:
            read[bundle].add(digest)
    return {name: digests for name, digests in read.items() if len(digests) < counts[name]}


def _worthwhile(needs: Needs, remains: Mapping[Digest, Remains]) -> dict[Digest, Remains]:
    """Leave out the bundles in packs that would not be replaced, as most of what they have is needed."""
    free: dict[str, int] = defaultdict(int)
    for name in remains:
        free[needs.chosen[name].pack] += needs.chosen[name].stored
    for digest in needs.needed:
        if (held := needs.chosen[digest]).pack in free:
            free[held.pack] -= held.stored
    filled = needs.filled
    return {
        name: one
        for name, one in remains.items()
        if (pack := needs.chosen[name].pack) and worth_copying(filled[pack] + free[pack], filled[pack])
    }


def _first(needs: Needs, remains: Mapping[Digest, Remains]) -> dict[Digest, Remains]:
    """Leave out the bundles that others of them depend on: less of these may be needed without the others."""
    bases = {base for name in remains for base in needs.chosen[name].bases}
    later = ancestors(bases & needs.chosen.keys(), needs.chosen)
    return {name: one for name, one in remains.items() if name not in later}


def _bundle(store: Store, needs: Needs, name: Digest) -> Bundle | None:
    """Return a bundle that can be replaced: it has bytes, in this store, and can be decoded."""
    held = needs.chosen[name]
    if not (held.pack and held.stored) or held.root != str(store.root) or held.verdict is not Verdict.SOUND:
        return None
    if any(name in needs.held.get(pack, ()) for pack in needs.spared):
        return None
    return store.blob_at(name, held).entry.bundle


def _made_of(
    store: Store, needs: Needs, bundle: Bundle, above: Iterable[Digest], anew: Mapping[Digest, Entry]
) -> tuple[list[Entry], set[Digest]] | None:
    """Return the parts and gathered bundles that are made of a bundle, and which of its tensors they need.

    Args:
        store: The store.
        needs: What is needed of it.
        bundle: The bundle.
        above: What depends on it.
        anew: Those of these that are made of other bundles than in the store.

    Returns:
        None if all of the bundle is needed, as by a delta.
    """
    members = set(bundle.digests())
    entries: list[Entry] = []
    wanted: set[Digest] = set()
    for digest in above:
        held = needs.chosen[digest]
        if held.stored:
            return None
        if digest in members:
            wanted.add(digest)
        entry = anew[digest] if digest in anew else store.blob_at(digest, held).entry if held.pack else None
        if entry is not None:
            entries.append(entry)
            if entry.bundle is not None:
                wanted |= members.intersection(entry.bundle.digests())
        elif digest not in members:  # a dry run plans to gather it
            return None
    return entries, wanted


def _once(store: Store, needs: Needs, remains: Mapping[Digest, Remains]) -> dict[Digest, Remains]:
    """Leave out what is not needed and is also stored elsewhere, or in another of the bundles."""
    seen: set[Digest] = set()
    rest: dict[Digest, Remains] = {}
    parts = store.index.parts(digest for one in remains.values() for _, digest in one.left)
    for name, one in remains.items():
        left = []
        for spec, digest in one.left:
            others = {bundle for bundle, _ in parts.get(digest, ())} - remains.keys()
            if digest not in seen and digest not in needs.needed and others.isdisjoint(needs.needed):
                left.append((spec, digest))
        seen.update(digest for _, digest in left)
        rest[name] = replace(one, left=left)
    return rest
