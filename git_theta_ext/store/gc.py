"""Which packs nobody needs any more, and what is worth copying out of those that are mostly waste."""

from __future__ import annotations

import time
from collections import defaultdict
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING

from git_theta_ext.store.chains import ancestors, smallest
from git_theta_ext.store.copying import copies

if TYPE_CHECKING:
    from collections.abc import Mapping
    from collections.abc import Set as AbstractSet

    from git_theta_ext.model.tensor import Digest
    from git_theta_ext.store.blobs import Store
    from git_theta_ext.store.chains import Holder
    from git_theta_ext.store.packs import Entry

_LITTLE = 1 << 20
"""Bytes below which a pack is a little one."""

_MANY = 64
"""So many little packs are put together."""

_WASTE = 0.5
_NEGLIGIBLE = 1 << 12

_TICK = 0.1
"""Seconds by which the time of a file may lag behind the clock."""


@dataclass(frozen=True)
class Garbage:
    """What a collection would remove.

    Attributes:
        redundant: Name and bytes of packs all of whose tensors are held elsewhere in fewer bytes.
        dead: Name and bytes of packs that hold nothing which anybody names, and are old enough.
        young: Bytes of tensors that nobody names, kept since somebody may be about to.
        seen: When this was found out, in seconds.
    """

    redundant: tuple[tuple[str, int], ...] = ()
    dead: tuple[tuple[str, int], ...] = ()
    young: int = 0
    seen: float = 0.0

    @property
    def nbytes(self) -> int:
        """Bytes of all packs that would go."""
        return sum(nbytes for _, nbytes in (*self.redundant, *self.dead))


@dataclass(frozen=True)
class _Needs:
    chosen: Mapping[Digest, Holder]
    needed: AbstractSet[Digest]
    young: int
    sizes: Mapping[str, tuple[int, float]]


def find_garbage(store: Store, live: AbstractSet[Digest], older_than: float) -> Garbage:
    """Find the packs that are not needed.

    Args:
        store: Only its own packs are looked at, never those of alternates.
        live: Digests that manifests name.
        older_than: Packs written or touched from this time on, in seconds, are taken to be needed.
    """
    seen = _now()
    needs = _needs(store, live, older_than)
    keep = {needs.chosen[digest].pack for digest in needs.needed}
    held = _digests_by_pack(store)
    redundant, dead = [], []
    for name in sorted(set(needs.sizes) - keep):
        size, changed = needs.sizes[name]
        if held[name] & needs.needed:
            redundant.append((name, size))
        elif changed < older_than:
            dead.append((name, size))
    return Garbage(tuple(redundant), tuple(dead), needs.young, seen)


def collect(store: Store, garbage: Garbage, older_than: float) -> int:
    """Remove packs, unless somebody needed them meanwhile.

    Returns:
        The bytes of those that are gone.
    """
    sizes = dict((*garbage.redundant, *garbage.dead))
    # What was touched since we looked may hold a tensor that somebody is just about to name.
    gone = store.drop([name for name, _ in garbage.dead], min(older_than, garbage.seen))
    gone += store.drop([name for name, _ in garbage.redundant], garbage.seen)
    return sum(sizes[name] for name in gone)


def repack(store: Store, live: AbstractSet[Digest], older_than: float) -> int:
    """Copy what is needed out of packs that are mostly waste, and put many little packs together.

    Returns:
        Number of packs whose content was copied.
    """
    seen = _now()
    needs = _needs(store, live, older_than)
    wanted: dict[str, list[Digest]] = defaultdict(list)
    for digest in sorted(needs.needed):
        holder = needs.chosen[digest]
        if holder.pack in needs.sizes and holder.root == str(store.root):
            wanted[holder.pack].append(digest)
    used = {name: sum(needs.chosen[d].stored for d in digests) for name, digests in wanted.items()}
    # Without the header, whose part of a pack of tiny tensors is large however much of them is needed.
    filled_with = {name: sum(entry.stored for entry in _entries(store, name)) for name in wanted}
    wasteful = {name for name, nbytes in used.items() if nbytes < _WASTE * filled_with[name] - _NEGLIGIBLE}
    little = {name for name in wanted if needs.sizes[name][0] < _LITTLE}
    chosen = wasteful | (little if len(little) >= _MANY else set())
    if not chosen:
        return 0
    order = sorted(chosen, key=lambda name: (needs.sizes[name][1], name))
    holders = [needs.chosen[digest] for name in order for digest in wanted[name]]
    store.write(copies(store, holders), loose=False)
    return len(store.drop(sorted(chosen), seen))


def _now() -> float:
    return time.time() - _TICK


def _needs(store: Store, live: AbstractSet[Digest], older_than: float) -> _Needs:
    holders = store.index.all_holders()
    sizes: dict[str, tuple[int, float]] = {}
    for root, path in store.pack_files():
        if root == store.root:
            with suppress(FileNotFoundError):
                stat = path.stat()
                sizes[path.name] = (stat.st_size, stat.st_mtime)
    # What an alternate holds as well is kept here too: it is somebody else's to delete.
    own = {d: mine for d, held in holders.items() if (mine := tuple(h for h in held if h.root == str(store.root)))}
    chosen = {**smallest(holders), **smallest(own)}
    young = {
        digest
        for digest, held in holders.items()
        if any(sizes.get(holder.pack, (0, 0.0))[1] >= older_than for holder in held)
    }
    nameless = young - ancestors(live & set(chosen), chosen)
    needed = ancestors((live | young) & set(chosen), chosen)
    return _Needs(chosen, needed, sum(chosen[d].stored for d in nameless if d in chosen), sizes)


def _digests_by_pack(store: Store) -> dict[str, set[Digest]]:
    found: dict[str, set[Digest]] = defaultdict(set)
    for digest, held in store.index.all_holders().items():
        for holder in held:
            found[holder.pack].add(digest)
    return found


def _entries(store: Store, name: str) -> tuple[Entry, ...]:
    return store.reader.header(store.pack_path(name)).entries
