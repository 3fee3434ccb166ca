"""Find packs that are not needed, and packs that are mostly waste, whose other content is worth copying."""

from __future__ import annotations

import time
from collections import defaultdict
from types import MappingProxyType
from typing import TYPE_CHECKING

from git_theta_ext.errors import CorruptError, MissingError
from git_theta_ext.records import dataclass, field
from git_theta_ext.store.deltas.chains import MAX_CHAIN, ancestors
from git_theta_ext.store.locations import Verdict
from git_theta_ext.store.maintenance.copying import copies
from git_theta_ext.store.maintenance.needs import Needs, needs_of
from git_theta_ext.store.part_blobs import find_blobs

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from collections.abc import Set as AbstractSet

    from git_theta_ext.model.tensor import Digest
    from git_theta_ext.store.locations import Location
    from git_theta_ext.store.store import Store

_LITTLE = 1 << 20
"""Bytes below which a pack is small."""

_MANY = 64
"""Number of small packs from which on they are combined."""

_WASTE = 1 / 8
"""Share of waste in a pack from which on the rest is copied, as it is stored. It bounds what garbage takes for ever."""

_NEGLIGIBLE = 1 << 12

_TICK = 0.1
"""Seconds by which the modification time of a file may lag behind the clock."""


@dataclass(frozen=True)
class Garbage:
    """What a garbage collection removes.

    Attributes:
        redundant: Name and bytes of packs whose tensors all have better locations, with fewer bytes or shorter chains.
        dead: Name and bytes of packs without reachable tensors that are old enough.
        young: Bytes of unreachable tensors that are kept since they are recent.
        waiting: Names of the packs that have such tensors.
        seen: Time of the analysis, in seconds since the epoch.
        needs: The analysis, for ``repack``. That of a collection with nothing to do is not kept.
    """

    redundant: tuple[tuple[str, int], ...] = ()
    dead: tuple[tuple[str, int], ...] = ()
    young: int = 0
    waiting: tuple[str, ...] = ()
    seen: float = 0.0
    needs: Needs | None = field(default=None, compare=False, repr=False)

    @property
    def nbytes(self) -> int:
        """Bytes of all packs to remove."""
        return sum(nbytes for _, nbytes in (*self.redundant, *self.dead))


def find_garbage(  # noqa: PLR0913 - named
    store: Store,
    live: AbstractSet[Digest],
    older_than: float,
    planned: Mapping[Digest, Location] = MappingProxyType({}),
    depth: int = MAX_CHAIN,
    *,
    replaced: AbstractSet[Digest] = frozenset(),
) -> Garbage:
    """Find the packs that are not needed.

    Args:
        store: The store. Packs of its alternates and packs that are not in the index are left alone.
        live: Digests that manifests name.
        older_than: Packs written or touched at this time, in seconds since the epoch, or later count as needed.
        planned: Locations of some digests that a dry run takes to exist, in a pack without a name.
        depth: Largest chain depth. A location with a larger one is redundant if there is another.
        replaced: Bundles whose tensors have been stored again, or that a dry run takes to be.
    """
    seen = time.time() - _TICK
    needs = needs_of(store, live, older_than, planned, depth, replaced)
    keep = {needs.chosen[digest].pack for digest in needs.needed} | needs.spared
    redundant, dead = [], []
    used = needs.needed | replaced
    for name in sorted(set(needs.held) - keep):
        size, changed = needs.sizes[name]
        if not used.isdisjoint(needs.held[name]):
            redundant.append(name)
        elif changed < older_than:
            dead.append((name, size))
    sound = _replaced(store, needs, redundant)
    young = sum(needs.chosen[digest].stored for digest in needs.nameless if digest in needs.chosen)
    waiting = sorted(name for name, digests in needs.held.items() if digests & needs.nameless)
    elsewhere = tuple((name, needs.sizes[name][0]) for name in sound)
    return Garbage(elsewhere, tuple(dead), young, tuple(waiting), seen, needs)


def collect(store: Store, garbage: Garbage, older_than: float) -> int:
    """Remove packs, unless another process used them in the meantime.

    Returns:
        The bytes of the packs that were removed.
    """
    sizes = dict((*garbage.redundant, *garbage.dead))
    # A pack that was touched since the analysis may have a tensor that a new manifest is about to name.
    gone = store.drop([name for name, _ in garbage.dead], min(older_than, garbage.seen))
    gone += store.drop([name for name, _ in garbage.redundant], garbage.seen)
    return sum(sizes[name] for name in gone)


def repack(store: Store, garbage: Garbage) -> int:
    """Copy the needed entries out of packs that are mostly waste, and combine small packs.

    Unreachable tensors that are too young to be removed become packs of their own. Every use of a pack makes all of its
    tensors young again, so next to a tensor that is used often they would stay for ever.

    Args:
        store: The store.
        garbage: What ``find_garbage`` found. That it was removed since changes nothing: what is needed is not read from
            it. A pack that another process used since stays.

    Returns:
        Number of packs that were replaced.
    """
    needs = garbage.needs
    if needs is None:
        return 0
    wanted = _wanted(store, needs)
    small = {name for name in wanted if needs.sizes[name][0] < _LITTLE}
    copied = {*_waste(needs, wanted), *(small if len(small) >= _MANY else ())}
    # An entry that cannot be decoded cannot be decoded from a copy either.
    copied -= {name for name in copied if any(needs.chosen[d].verdict is not Verdict.SOUND for d in wanted[name])}
    chosen = _replaced(store, needs, sorted(copied))
    if not chosen:
        return 0
    order = sorted(chosen, key=lambda name: (needs.sizes[name][1], name))
    kept = [digest for name in order for digest in wanted[name]]
    named = [needs.chosen[digest] for digest in kept if digest not in needs.nameless]
    nameless = [needs.chosen[digest] for digest in kept if digest in needs.nameless]
    store.write([*copies(store, named), *copies(store, nameless)], loose=False)
    return len(store.drop(chosen, garbage.seen))


def wasted(store: Store, garbage: Garbage) -> int:
    """Return the number of bytes that ``repack`` would free."""
    needs = garbage.needs
    return 0 if needs is None else sum(_waste(needs, _wanted(store, needs)).values())


def _wanted(store: Store, needs: Needs) -> dict[str, list[Digest]]:
    """Return the digests that are read from each pack that may be replaced."""
    wanted: dict[str, list[Digest]] = defaultdict(list)
    for digest in sorted(needs.needed):
        location = needs.chosen[digest]
        if location.root == str(store.root) and location.pack in needs.held and location.pack not in needs.spared:
            wanted[location.pack].append(digest)
    return wanted


def _waste(needs: Needs, wanted: Mapping[str, Sequence[Digest]]) -> dict[str, int]:
    """Return the packs of which copying a part pays, with the bytes that are not copied."""
    waste = {}
    for name, digests in wanted.items():
        # Without the header, which is a large part of a pack of tiny tensors even if all of them are needed.
        filled = needs.filled[name]
        kept = sum(needs.chosen[digest].stored for digest in digests)
        nameless = sum(needs.chosen[digest].stored for digest in digests if digest in needs.nameless)
        if worth_copying(filled - kept + (nameless if nameless < kept else 0), filled):
            waste[name] = filled - kept
    return waste


def worth_copying(waste: int, filled: int) -> bool:
    """Return whether to copy the rest out of a pack in which so many bytes, out of so many, are not needed."""
    return waste > _WASTE * filled + _NEGLIGIBLE


def wait_for_clock() -> None:
    """Wait until packs that were written just now count as older than an analysis, and can be combined."""
    time.sleep(_TICK)


def _replaced(store: Store, needs: Needs, names: Sequence[str]) -> list[str]:
    """Return those of some packs whose needed tensors can be decoded from other packs, or are about to be copied."""
    relied = {name: {d for d in needs.held[name] & needs.needed if needs.chosen[d].pack != name} for name in names}
    # In the order in which they were stored: deltas of the same tensors follow each other.
    todo = sorted(
        (
            digest
            for digest in frozenset().union(*relied.values())
            if needs.chosen[digest].pack and not store.was_verified(digest, needs.chosen[digest].pack)
        ),
        key=lambda digest: (needs.chosen[digest].pack, needs.chosen[digest].entry),
    )
    lost: set[Digest] = set()
    if not _all_decodable(store, needs.chosen, todo):
        # All at once, and one by one only after an error.
        lost = {digest for digest in todo if not _all_decodable(store, needs.chosen, [digest])}
    return [name for name in names if not relied[name] & lost]


def _all_decodable(store: Store, chosen: Mapping[Digest, Location], digests: Sequence[Digest]) -> bool:
    try:
        blobs = find_blobs(ancestors(digests, chosen), chosen, store.finder())
        store.verify(digests, blobs)
    except (CorruptError, MissingError):
        return False
    return True
