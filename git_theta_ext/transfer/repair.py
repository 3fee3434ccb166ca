"""Mend a store: damaged packs are moved aside, and what they held is fetched anew or saved out of them."""

from __future__ import annotations

import shutil
from contextlib import closing, suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING

from git_theta_ext.errors import CorruptError, MissingError, RemoteError
from git_theta_ext.store.blobs import Store
from git_theta_ext.store.chains import shallowest
from git_theta_ext.store.fsck import check_tensors
from git_theta_ext.store.locks import dropping
from git_theta_ext.store.pool import no_progress
from git_theta_ext.store.reader import read_pack_header
from git_theta_ext.store.writer import explained, pack_path, place_pack, sync_folders
from git_theta_ext.transfer.remote_index import held, read_remote_index
from git_theta_ext.transfer.sync import fetch

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Mapping, Sequence
    from pathlib import Path

    from git_theta_ext.model.tensor import Digest, TensorSpec
    from git_theta_ext.store.fsck import Problem
    from git_theta_ext.transfer.remote_index import Place

QUARANTINE = "quarantine"
"""The folder of the store that damaged packs are moved to, laid out as a store itself."""


@dataclass(frozen=True)
class RepairPlan:
    """What a repair would do.

    Attributes:
        packs: Names of the damaged packs of this store.
        broken: What manifests name, is held here, and cannot be had without them.
        fetchable: Those of them that a remote holds.
    """

    packs: tuple[str, ...]
    broken: frozenset[Digest]
    fetchable: frozenset[Digest]


@dataclass(frozen=True)
class Repair:
    """What a repair did.

    Attributes:
        fetched: What a remote had.
        saved: What could still be read out of damaged packs.
        lost: What could not be mended.
        removed: Names of damaged packs of which nothing is needed any more.
        quarantined: Names of those that were moved aside and may hold more than could be mended.
        put_back: Names of those that are where they were, since there is nothing better.
        problems: What is wrong with the tensors that came instead.
    """

    fetched: frozenset[Digest]
    saved: frozenset[Digest]
    lost: frozenset[Digest]
    removed: tuple[str, ...]
    quarantined: tuple[str, ...]
    put_back: tuple[str, ...]
    problems: tuple[Problem, ...]


def plan_repair(
    store: Store, places: Sequence[Place], named: Mapping[Digest, TensorSpec], packs: Collection[str]
) -> RepairPlan:
    """Find out what a repair can do, and change nothing.

    Args:
        store: To be mended.
        places: Remotes; those that cannot be reached hold nothing.
        named: What manifests name.
        packs: Names of damaged packs of this store.
    """
    sound = {
        digest: rest
        for digest, holders in store.holders(named).items()
        if (rest := tuple(h for h in holders if h.root != str(store.root) or h.pack not in packs))
    }
    here = set(store.index.holders(named))
    broken = here - set(shallowest(sound))
    fetchable: set[Digest] = set()
    if broken:
        for place in places:
            with suppress(RemoteError):
                fetchable |= broken & held(read_remote_index(store, place).headers.values())
    return RepairPlan(tuple(sorted(packs)), frozenset(broken), frozenset(fetchable))


def repair(
    store: Store,
    places: Sequence[Place],
    named: Mapping[Digest, TensorSpec],
    plan: RepairPlan,
    advance: Callable[[int], None] = no_progress,
) -> Repair:
    """Move damaged packs aside and bring what they held; a pack goes back if nothing could be brought in its place.

    What a damaged pack holds and no manifest names goes with it.

    Args:
        store: To be mended.
        places: Remotes, in the order in which they are asked.
        named: What manifests name.
        plan: From ``plan_repair``.
        advance: Told the number of bytes fetched, as it goes.

    Raises:
        StoreError: The store cannot be written; the packs are where they were, or in ``quarantine``.
    """
    contents = {name: _contents(store, name) for name in plan.packs}
    for name in plan.packs:
        _move(store, store.root, store.root / QUARANTINE, name)
        store.index.drop_pack(str(store.root), name)
    # Files that are open stay readable after they were moved; nothing may be read out of these.
    store.reader.close()
    if places and plan.broken:
        with suppress(MissingError, RemoteError, CorruptError):  # what is still missing then is known below
            fetch(store, places, plan.broken, advance)
    fetched = plan.broken - store.missing(plan.broken)
    saved = _salvage(store, {digest: named[digest] for digest in plan.broken - fetched})
    lost = store.missing(plan.broken)
    removed, quarantined, put_back = [], [], []
    for name, digests in contents.items():
        if digests and not digests & lost:
            removed.append(name)
            pack_path(store.root / QUARANTINE, name).unlink()
        elif digests & plan.broken and not digests & (fetched | saved):
            put_back.append(name)
            _move(store, store.root / QUARANTINE, store.root, name)
        else:
            quarantined.append(name)
    if not quarantined:
        shutil.rmtree(store.root / QUARANTINE, ignore_errors=True)
    store.refresh()
    mended = {digest: named[digest] for digest in fetched | saved}
    problems = tuple(problem for _, problem in check_tensors(store, mended))
    return Repair(
        frozenset(fetched), saved, frozenset(lost), tuple(removed), tuple(quarantined), tuple(put_back), problems
    )


def _contents(store: Store, name: str) -> set[Digest]:
    """Return what a damaged pack is said to hold, by the index and by what can be read of it."""
    place = (str(store.root), name)
    found = {
        digest
        for digest, holders in store.index.all_holders().items()
        if any((holder.root, holder.pack) == place for holder in holders)
    }
    with suppress(CorruptError, FileNotFoundError):
        found |= {entry.digest for entry in read_pack_header(store.pack_path(name)).entries}
    return found


def _move(store: Store, source: Path, target: Path, name: str) -> None:
    with dropping(store.root), explained(target):
        sync_folders(place_pack(target, pack_path(source, name), name))


def _salvage(store: Store, wanted: Mapping[Digest, TensorSpec]) -> frozenset[Digest]:
    """Store again what is whole in packs that were moved aside: a damaged pack has many sound parts."""
    saved: set[Digest] = set()
    if not wanted:
        return frozenset()
    with closing(Store(store.root / QUARANTINE, [store.root], store.threads)) as aside:
        aside.refresh()
        for digest in sorted(set(wanted) & set(shallowest(aside.holders(wanted)))):
            with suppress(CorruptError, MissingError):
                store.put([(wanted[digest], digest, aside.read(digest, wanted[digest]))])
                saved.add(digest)
    return frozenset(saved)
