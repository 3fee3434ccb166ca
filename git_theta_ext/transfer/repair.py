"""Mend a store: damaged packs are moved aside, and what they held is fetched anew or saved out of them."""

from __future__ import annotations

from contextlib import closing, suppress
from dataclasses import dataclass
from itertools import count
from typing import TYPE_CHECKING

from git_theta_ext.errors import CorruptError, RemoteError
from git_theta_ext.store.blobs import Store
from git_theta_ext.store.chains import Holder, closure, shallowest
from git_theta_ext.store.fsck import UNREADABLE, check_tensors
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
    from git_theta_ext.store.chains import Holders
    from git_theta_ext.store.fsck import Problem
    from git_theta_ext.transfer.remote_index import Place

QUARANTINE = "quarantine"
"""The folder of the store that damaged packs are moved to, laid out as a store itself.

What is left there is never removed: it may be all that there is of a tensor.
"""


@dataclass(frozen=True)
class RepairPlan:
    """What a repair would do.

    Attributes:
        packs: Names of the damaged packs of this store.
        broken: What manifests name, is held here or was moved aside, and cannot be had from sound packs.
        fetchable: Those of them that a remote holds.
    """

    packs: tuple[str, ...]
    broken: frozenset[Digest]
    fetchable: frozenset[Digest]


@dataclass(frozen=True)
class Repair:
    """What a repair did.

    Attributes:
        fetched: What a remote had, decoded and compared with its digests.
        saved: What could still be read out of damaged packs.
        lost: What could not be mended.
        removed: Names of damaged packs of which nothing is needed any more.
        quarantined: Names of those that were moved aside and may hold more than could be mended.
        put_back: Names of those that are where they were, since there is nothing better.
        problems: What is wrong with those of the lost that are here.
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
    every = store.holders(named)
    sound = {
        digest: rest
        for digest, holders in every.items()
        if (rest := tuple(h for h in holders if h.root != str(store.root) or h.pack not in packs))
    }
    # A repair that was cut off left them there.
    aside = _holders_aside(store)
    broken = ((set(every) | set(aside)) & set(named)) - set(shallowest(sound))
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
    known = store.index.all_holders()
    aside = {_move_aside(store, name): name for name in plan.packs}
    # Files that are open stay readable after they were moved; nothing may be read out of these.
    store.reader.close()
    wanted = {digest: named[digest] for digest in plan.broken}
    if places and plan.broken:
        with suppress(*UNREADABLE, RemoteError):  # what is still missing then is known below
            fetch(store, places, plan.broken, advance)
    fetched, _ = _decodable(store, wanted)
    _salvage(store, {digest: wanted[digest] for digest in plan.broken - fetched})
    mended, problems = _decodable(store, wanted)
    lost = plan.broken - mended
    held_aside = _holders_aside(store)
    behind = _behind(
        lost, {digest: (*known.get(digest, ()), *held_aside.get(digest, ())) for digest in {*known, *held_aside}}
    )
    removed, quarantined, put_back = [], [], []
    for there, name in aside.items():
        digests = _contents(known, str(store.root), name) | _contents(held_aside, str(store.root / QUARANTINE), there)
        if digests and not digests & behind:
            removed.append(name)
            pack_path(store.root / QUARANTINE, there).unlink()
        elif digests & behind and not digests & mended:
            put_back.append(name)
            _move(store, pack_path(store.root / QUARANTINE, there), store.root, name)
        else:
            quarantined.append(name)
    _tidy(store.root / QUARANTINE)
    store.refresh()
    return Repair(fetched, mended - fetched, lost, tuple(removed), tuple(quarantined), tuple(put_back), tuple(problems))


def _decodable(store: Store, wanted: Mapping[Digest, TensorSpec]) -> tuple[frozenset[Digest], list[Problem]]:
    """Return what can be decoded and is what its digest says, and what is wrong with the others that are here."""
    problems = dict(check_tensors(store, wanted))
    return frozenset(set(wanted) - store.missing(wanted) - set(problems)), list(problems.values())


def _behind(digests: Collection[Digest], holders: Holders) -> set[Digest]:
    """Return some digests and all that they lean on, in whatever pack."""
    found = closure(digests, lambda wanted: {digest: holders[digest] for digest in wanted if digest in holders})
    return {*digests, *found, *(base for held in found.values() for holder in held for base in holder.bases)}


def _contents(holders: Holders, root: str, name: str) -> set[Digest]:
    return {digest for digest, held in holders.items() if any((h.root, h.pack) == (root, name) for h in held)}


def _holders_aside(store: Store) -> Holders:
    """Return what packs that were moved aside hold, as far as their headers can be read."""
    root = store.root / QUARANTINE
    found: Holders = {}
    for path in sorted((root / "packs").glob("*/*")):
        with suppress(CorruptError, FileNotFoundError):
            for number, entry in enumerate(read_pack_header(path).entries):
                holder = Holder(str(root), path.name, number, entry.stored, entry.bases)
                found[entry.digest] = (*found.get(entry.digest, ()), holder)
    return found


def _move_aside(store: Store, name: str) -> str:
    """Move a pack to the quarantine, and return its name there: one of that name may have come before it."""
    free = (
        there for n in count() if not pack_path(store.root / QUARANTINE, there := f"{name}.{n}" if n else name).exists()
    )
    there = next(free)
    _move(store, store.pack_path(name), store.root / QUARANTINE, there)
    store.index.drop_pack(str(store.root), name)
    return there


def _move(store: Store, source: Path, target: Path, name: str) -> None:
    with dropping(store.root), explained(target):
        sync_folders(place_pack(target, source, name))


def _salvage(store: Store, wanted: Mapping[Digest, TensorSpec]) -> None:
    """Store again what is whole in packs that were moved aside: a damaged pack has many sound parts."""
    root = store.root / QUARANTINE
    if not wanted or not root.exists():
        return
    others = dict.fromkeys([store.root, *(place for place, _ in store.pack_files())])
    with closing(Store(root, list(others), store.threads)) as aside:
        aside.refresh()
        for digest in sorted(set(wanted) & set(shallowest(aside.holders(wanted)))):
            with suppress(*UNREADABLE):
                store.put([(wanted[digest], digest, aside.read(digest, wanted[digest]))])


def _tidy(quarantine: Path) -> None:
    """Remove what is derived, the locks of those who read there, and the folders that are empty."""
    for path in (*quarantine.glob("index.sqlite3*"), *quarantine.glob("*.lock")):
        path.unlink(missing_ok=True)
    for folder in (*sorted(quarantine.glob("packs/*")), quarantine / "packs", quarantine):
        with suppress(OSError):
            folder.rmdir()
