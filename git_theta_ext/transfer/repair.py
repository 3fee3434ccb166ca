"""Repair a store: move damaged packs to quarantine, and get their tensors from other sources."""

from __future__ import annotations

from contextlib import suppress
from itertools import count
from typing import TYPE_CHECKING

from git_theta_ext.errors import CorruptError, RemoteError
from git_theta_ext.records import dataclass
from git_theta_ext.store.deltas.chains import closure, shallowest
from git_theta_ext.store.locations import by_digest, filtered, flattened, in_pack, sound, with_parts
from git_theta_ext.store.locks import exclusive_lock
from git_theta_ext.store.maintenance.fsck import check_tensors
from git_theta_ext.store.packs.finishing import pack_path, place_pack
from git_theta_ext.store.packs.reader import read_pack_header
from git_theta_ext.store.parts import parts_in
from git_theta_ext.store.verification.examine import UNREADABLE
from git_theta_ext.transfer.remote_index import read_remote_index
from git_theta_ext.transfer.salvage import place_in, salvage
from git_theta_ext.transfer.sync import fetch
from git_theta_ext.util.files import reporting_os_errors, sync_directories
from git_theta_ext.util.threads import no_progress

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Mapping, Sequence
    from collections.abc import Set as AbstractSet
    from pathlib import Path

    from git_theta_ext.model.tensor import Digest, TensorSpec
    from git_theta_ext.store.locations import Location, Locations
    from git_theta_ext.store.maintenance.fsck import Problem
    from git_theta_ext.store.store import Store
    from git_theta_ext.transfer.remote_index import OpenedRemote
    from git_theta_ext.util.reporter import Progress

QUARANTINE = "quarantine"
"""The directory of the store that damaged packs are moved to; it has the structure of a store.

Packs that are left there are never removed, since they may have the only copy of a tensor.
"""


@dataclass(frozen=True)
class RepairPlan:
    """A planned repair.

    Attributes:
        packs: Names of the damaged packs of this store.
        broken: Digests that manifests name and no sound pack of the store has, except those that only a remote ever had
            and that were never fetched.
        fetchable: Those of them that a remote has.
    """

    packs: tuple[str, ...]
    broken: frozenset[Digest]
    fetchable: frozenset[Digest]


@dataclass(frozen=True)
class Repair:
    """The result of a repair.

    Attributes:
        sources: Where the good copy of each damaged or missing tensor comes from.
        fetched: Digests that were fetched from a remote and verified.
        saved: Digests that could be read from damaged packs.
        lost: Digests that could not be repaired.
        removed: Names of damaged packs that were removed, since nothing in them is needed.
        quarantined: Names of damaged packs in quarantine, which may have data that could not be repaired.
        put_back: Names of damaged packs that were left in place, since there is no other copy of their tensors.
        problems: Problems of lost tensors that the store has.
    """

    sources: Mapping[Digest, str]
    fetched: frozenset[Digest]
    saved: frozenset[Digest]
    lost: frozenset[Digest]
    removed: tuple[str, ...]
    quarantined: tuple[str, ...]
    put_back: tuple[str, ...]
    problems: tuple[Problem, ...]


def plan_repair(
    store: Store, remotes: Sequence[OpenedRemote], named: Mapping[Digest, TensorSpec], packs: Collection[str]
) -> RepairPlan:
    """Plan a repair without changing anything.

    Args:
        store: The store to repair.
        remotes: The remotes. Those that cannot be reached are ignored.
        named: Digest and spec of all tensors that manifests name.
        packs: Names of damaged packs of this store.
    """
    store.prove(named)
    damaged = {(str(store.root), name) for name in packs}
    elsewhere = filtered(store.locations(named), lambda _, location: location.pack_id not in damaged)
    absent = set(named) - set(shallowest(elsewhere))
    # An interrupted repair left them in quarantine.
    parts = store.index.parts(absent)
    recorded = store.index.locations({*absent, *(bundle for several in parts.values() for bundle, _ in several)})
    bundled = {digest for digest, several in parts.items() if any(bundle in recorded for bundle, _ in several)}
    were_here = absent & {*recorded, *bundled, *_quarantined_locations(store)}
    fetchable: set[Digest] = set()
    all_answered = True
    for remote in remotes if absent else ():
        try:
            fetchable |= read_remote_index(store, remote).held(absent)
        except RemoteError:  # noqa: PERF203 - a handful of remotes
            all_answered = False
    broken = were_here | (absent - fetchable if all_answered else set())
    return RepairPlan(tuple(sorted(packs)), frozenset(broken), frozenset(fetchable & broken))


def repair(  # noqa: PLR0913, PLR0917 - all that a repair needs
    store: Store,
    remotes: Sequence[OpenedRemote],
    named: Mapping[Digest, TensorSpec],
    plan: RepairPlan,
    heal: Callable[[AbstractSet[Digest]], Mapping[Digest, str]],
    advance: Progress = no_progress,
) -> Repair:
    """Move damaged packs to quarantine and replace their tensors. A pack is put back if none can be replaced.

    Sources are other packs first, then files of work trees, remotes, and the intact parts of the damaged packs.
    Tensors of a damaged pack that no manifest names are dropped.

    Args:
        store: The store to repair.
        remotes: The remotes, in order of preference.
        named: Digest and spec of all tensors that manifests name.
        plan: The result of ``plan_repair``.
        heal: Stores tensors again from files that have some digests; returns the digests stored and their sources.
        advance: Called with the number of bytes fetched since the last call.

    Raises:
        StoreError: The store cannot be written. The packs are in their place or in ``quarantine``.
    """
    locations = with_parts(store.index.all_locations(), store.index.parts(named))
    aside = {_move_aside(store, name): name for name in plan.packs}
    # Open files stay readable after they were moved, but nothing may be read from damaged packs.
    store.reader.close()
    wanted = {digest: named[digest] for digest in plan.broken}
    moved = {digest for name in plan.packs for digest in _contents(locations, str(store.root), name)} & set(named)
    sources = _other_packs(store, moved)
    left = plan.broken - set(sources)
    sources |= {digest: source for digest, source in heal(left).items() if digest in left}
    fetched = _fetch(store, remotes, plan.broken - set(sources), advance)
    sources |= fetched
    saved = salvage(store, store.root / QUARANTINE, {digest: wanted[digest] for digest in plan.broken - set(sources)})
    sources |= saved
    repaired, problems = _decodable(store, wanted)
    lost = plan.broken - repaired
    held_aside = _quarantined_locations(store)
    behind = _behind(
        lost,
        {digest: (*locations.get(digest, ()), *held_aside.get(digest, ())) for digest in {*locations, *held_aside}},
    )
    removed, quarantined, put_back = [], [], []
    for there, name in aside.items():
        digests = _contents(locations, str(store.root), name) | _contents(
            held_aside, str(store.root / QUARANTINE), there
        )
        if digests and not digests & behind:
            removed.append(name)
            pack_path(store.root / QUARANTINE, there).unlink()
        elif digests & behind and not digests & repaired:
            put_back.append(name)
            _move(store, pack_path(store.root / QUARANTINE, there), store.root, name)
        else:
            quarantined.append(name)
    _tidy(store.root / QUARANTINE)
    store.refresh()
    return Repair(
        sources={digest: source for digest, source in sources.items() if digest not in lost},
        fetched=repaired & set(fetched),
        saved=repaired & set(saved),
        lost=lost,
        removed=tuple(removed),
        quarantined=tuple(quarantined),
        put_back=tuple(put_back),
        problems=tuple(problems),
    )


def _other_packs(store: Store, digests: AbstractSet[Digest]) -> dict[Digest, str]:
    """Return which other packs have some tensors."""
    chosen = shallowest(sound(store.locations(digests)))
    return {digest: _named(store, place_in(chosen, digest)) for digest in digests & set(chosen)}


def _named(store: Store, location: Location) -> str:
    where = "in this store" if location.root == str(store.root) else f"in {location.root}"
    return f"pack {location.pack[:16]} {where}"


def _fetch(
    store: Store, remotes: Sequence[OpenedRemote], digests: AbstractSet[Digest], advance: Progress
) -> dict[Digest, str]:
    """Fetch tensors from one remote after another, and then those that only several remotes together have."""
    sources: dict[Digest, str] = {}
    together = [(remotes, "several remotes")] if len(remotes) > 1 else []
    for some, name in [*(([remote], remote.name) for remote in remotes), *together]:
        if left := set(digests) - set(sources):
            with suppress(*UNREADABLE, RemoteError):  # missing tensors are found below
                fetch(store, some, left, advance)
            sources |= dict.fromkeys(left - store.touch_and_find_missing(left), name)
    return sources


def _decodable(store: Store, wanted: Mapping[Digest, TensorSpec]) -> tuple[frozenset[Digest], list[Problem]]:
    """Return the digests that decode correctly, and the problems of the others that the store has."""
    problems = [problem for _, problem in check_tensors(store, wanted)]
    return frozenset(set(wanted) - store.touch_and_find_missing(wanted)), problems


def _behind(digests: Collection[Digest], locations: Locations) -> set[Digest]:
    """Return some digests and all that they depend on, in any pack."""
    below = closure(digests, lambda wanted: {digest: locations[digest] for digest in wanted if digest in locations})
    return {
        *digests,
        *below,
        *(base for _, location in flattened(below) for base in location.bases),
    }


def _contents(locations: Locations, root: str, name: str) -> set[Digest]:
    """Return what is in a pack, and the tensors of the bundles in it."""
    held = {digest for digest, location in flattened(locations) if location.pack_id == (root, name)}
    parts = (copy for copy in flattened(locations) if not copy[1].pack)
    return held | {digest for digest, location in parts if location.bases[0] in held}


def _quarantined_locations(store: Store) -> Locations:
    """Return the locations in quarantined packs with readable headers."""
    root = store.root / QUARANTINE
    copies: list[tuple[Digest, Location]] = []
    parts: dict[Digest, list[tuple[Digest, int]]] = {}
    for path in sorted((root / "packs").glob("*/*")):
        with suppress(CorruptError, FileNotFoundError):
            entries = read_pack_header(path).entries
            copies += in_pack(str(root), path.name, entries)
            for digest, several in parts_in(entries).items():
                parts[digest] = [*parts.get(digest, ()), *several]
    return with_parts(by_digest(copies), parts)


def _move_aside(store: Store, name: str) -> str:
    """Move a pack to quarantine, and return its name there, which differs if that name is taken."""
    free = (
        there for n in count() if not pack_path(store.root / QUARANTINE, there := f"{name}.{n}" if n else name).exists()
    )
    there = next(free)
    _move(store, store.pack_path(name), store.root / QUARANTINE, there)
    store.index.drop_pack(str(store.root), name)
    return there


def _move(store: Store, source: Path, target: Path, name: str) -> None:
    with exclusive_lock(store.root), reporting_os_errors(target):
        sync_directories(place_pack(target, source, name))


def _tidy(quarantine: Path) -> None:
    """Remove the index, the lock files and the empty directories of the quarantine."""
    for path in (*quarantine.glob("index.sqlite3*"), *quarantine.glob("*.lock")):
        path.unlink(missing_ok=True)
    for directory in (*sorted(quarantine.glob("packs/*")), quarantine / "packs", quarantine):
        with suppress(OSError):
            directory.rmdir()
