"""Push and fetch tensors by digest: choose the packs, move them, and verify them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from git_theta_ext.errors import MissingError, RemoteError, StoreError
from git_theta_ext.interfaces.remotes import ReadOnlyRemote
from git_theta_ext.model.remote_keys import pack_key
from git_theta_ext.store.deltas.chains import ancestors, closure, shallowest
from git_theta_ext.store.locations import in_packs
from git_theta_ext.store.locks import gc_lock
from git_theta_ext.store.maintenance.combine import combined
from git_theta_ext.store.maintenance.copying import renamed, whole_again
from git_theta_ext.store.maintenance.extract import extract_packs
from git_theta_ext.store.maintenance.rebundle import without_others
from git_theta_ext.store.packs.writer import grouped
from git_theta_ext.transfer.bring import Fetched, bring_packs
from git_theta_ext.transfer.damaged import note_damaged, read_damaged, tell_damaged
from git_theta_ext.transfer.early import FinalPacks
from git_theta_ext.transfer.heads import Heads
from git_theta_ext.transfer.incoming import forget_abandoned
from git_theta_ext.transfer.meter import Tally
from git_theta_ext.transfer.offers import Offers
from git_theta_ext.transfer.outgoing import Going, PushPlan, PushSteps, Uploads, keep
from git_theta_ext.transfer.remote_index import HeldDigests, known_better, read_remote_index
from git_theta_ext.util.threads import no_progress

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence
    from collections.abc import Set as AbstractSet

    from git_theta_ext.model.tensor import Digest
    from git_theta_ext.store.locations import Location, Locations
    from git_theta_ext.store.store import Store
    from git_theta_ext.transfer.remote_index import OpenedRemote, RemoteIndex
    from git_theta_ext.util.reporter import Progress

_PLANS = 3


def plan_push(
    store: Store,
    remote: OpenedRemote,
    digests: Iterable[Digest],
    steps: PushSteps | None = None,
    uploads: Uploads | None = None,
) -> PushPlan:
    """Find the packs that a remote lacks, and make new packs if the existing ones have other tensors too.

    All pushed tensors are verified first. An entry of a pack on the remote does not count if it is bad in the pack of
    the same name in this store.

    Args:
        store: The store that has the tensors.
        remote: The remote to push to.
        digests: Digests that the remote needs, with all that they depend on.
        steps: Additional steps.
        uploads: Takes packs that will be in the plan while others are still made.

    Raises:
        MissingError: Neither the store nor the remote has some of the digests.
        RemoteError: The remote cannot be reached, or takes no uploads.
        StoreError: The store cannot be written.
    """
    wanted, steps = set(digests), steps or PushSteps()
    if not wanted:
        return PushPlan()
    index = known_better(store, read_remote_index(store, remote), wanted)
    there = HeldDigests(index)
    held, lacking = there.divide(wanted)
    if lacking and isinstance(remote.plugin, ReadOnlyRemote):
        raise remote.plugin.read_only_error()
    if absent := store.touch_and_find_missing(lacking):
        wanted -= steps.obtain(absent)
        index = known_better(store, read_remote_index(store, remote), wanted)
        there = HeldDigests(index)
        held, lacking = there.divide(wanted)
        absent = store.touch_and_find_missing(lacking)
    if absent:
        raise MissingError(
            f"{len(absent)} of {len(wanted)} tensors and file layouts are neither in the store nor on {remote.name} "
            f"({remote.url}), including {min(absent)}",
            hint="run git theta push --all in a clone that has them; "
            "git theta fsck --remote lists the files that need them",
        )
    known = index.packs | read_damaged(store.root, remote.url)  # the latter go under other names
    stored = without_others(store, store.stored_as(lacking), there.among)
    going = set(stored.values())
    if lacking:
        steps.prepare(_going(FinalPacks(store, going, there, known), uploads, stored))
    needed = extract_packs(store, going, there)
    if damaged := needed & read_damaged(store.root, remote.url):
        needed = needed - damaged | renamed(store, damaged)
    if uploads is not None:
        needed = _combined(store, needed, known | uploads.names)
        for name in sorted(needed - known):
            uploads.add(name)
    after = going.union(index.stored_as(held).values())
    chosen = _chosen_after(store, index, after, needed)
    if deep := after - set(chosen):
        # On the remote their chains would be too deep to be read.
        needed |= set(store.write(grouped([whole_again(store, digest) for digest in sorted(deep)]), loose=True))
        chosen = _chosen_after(store, index, after, needed)
    needs = ancestors(after, chosen)
    relied_on = {location.pack for digest, location in chosen.items() if digest in needs and location.pack}
    sizes = ((name, store.path_of(name).stat().st_size) for name in needed - index.packs)
    unlisted = {name for name in index.packs - index.indexed if store.has_intact(name)}
    unlisted -= {name for name, _ in index.bad}
    packs = sorted(sizes, key=lambda pack: (-pack[1], pack[0]))
    return PushPlan(tuple(packs), tuple(sorted(unlisted)), frozenset(relied_on))


def _combined(store: Store, names: AbstractSet[str], fixed: AbstractSet[str]) -> set[str]:
    """Return the names of packs with the entries of some packs, of which small ones are combined; see ``combined``."""
    fixed = names & fixed
    try:
        with gc_lock(store.root, wait=False) as acquired:
            return {*fixed, *combined(store, names - fixed)} if acquired else set(names)
    except StoreError:  # a file system without locks
        return set(names)


def _chosen_after(
    store: Store, index: RemoteIndex, digests: AbstractSet[Digest], uploaded: AbstractSet[str]
) -> dict[Digest, Location]:
    """Return where some tensors, and all that they depend on, are read from on a remote after packs were uploaded."""
    headers = {name: store.reader.header(store.path_of(name)) for name in uploaded - index.packs}
    new = in_packs(headers, bad=index.bad)

    def look_up(wanted: AbstractSet[Digest]) -> Locations:
        held = index.locations(wanted)
        added = {digest: several for digest, several in new.items() if digest in wanted}
        return held | added | {digest: (*held[digest], *added[digest]) for digest in held.keys() & added.keys()}

    return shallowest(closure(digests, look_up))


def push(
    store: Store,
    remote: OpenedRemote,
    digests: Iterable[Digest],
    steps: PushSteps | None = None,
    advance: Progress = no_progress,
) -> PushPlan:
    """Push tensors to a remote, with all that they depend on; see ``plan_push`` and ``Uploads``.

    Packs that the remote has are not uploaded again. They are protected from garbage collection there, and uploaded if
    they are gone after all.

    Returns:
        The plan that was carried out.
    """
    wanted, tally = set(digests), Tally(advance)
    for left in reversed(range(_PLANS)):
        uploads = Uploads(store, remote, tally)
        try:
            with uploads:
                plan = plan_push(store, remote, wanted, steps, uploads)
                different = uploads.finish(plan)
        except (MissingError, RemoteError, FileNotFoundError) as error:
            # Another process may have recoded or combined packs, of the plan or while it was made.
            vanished = isinstance(error, MissingError) and error.pack is not None
            if not left or not (vanished or any(not store.has_pack(name) for name in uploads.names)):
                raise
            store.refresh()
        else:
            if different:
                note_damaged(store.root, remote.url, different)
                if not left:
                    raise RemoteError(
                        f"{remote.name} ({remote.url}) has a different file under the name of pack {min(different)}",
                        hint=f"remove {pack_key(min(different))} on the remote, then git push",
                    )
                store.warn(
                    f"{remote.name} ({remote.url}) has damaged packs, such as {min(different)[:16]}; "
                    "their tensors are uploaded in other packs"
                )
                continue
            gone = plan.relied_on - keep(remote, plan.relied_on)
            if not gone:
                break
            if not left:
                raise RemoteError(
                    f"{remote.name} ({remote.url}) removed pack {min(gone)} right after the push",
                    hint="wait until the garbage collection on the remote has finished, then git push",
                )
    if plan.packs:  # so that the next push need not read their heads
        Heads(store.root, remote.url).learn({name for name, _ in plan.packs})
    tell_damaged(store.root, remote.url, remote.plugin)
    return plan


def _going(packs: FinalPacks, uploads: Uploads | None, stored: Mapping[Digest, Digest]) -> Going:
    if uploads is None:
        return Going(packs.lacking, packs.there, stored)

    def upload(settled: Iterable[Digest]) -> None:
        for name in packs.take(settled):
            uploads.add(name)
        uploads.check()

    return Going(packs.lacking, packs.there, stored, upload)


def fetch(
    store: Store,
    remotes: Sequence[OpenedRemote],
    digests: Iterable[Digest],
    advance: Progress = no_progress,
) -> Fetched:
    """Fetch missing tensors from remotes, in order of preference; see ``fetch_offered``."""
    return fetch_offered(store, Offers(store, remotes), digests, advance)


def fetch_offered(
    store: Store,
    offers: Offers,
    digests: Iterable[Digest],
    advance: Progress = no_progress,
) -> Fetched:
    """Fetch missing tensors. A remote is used only for tensors that the remotes before it lack.

    An interrupted download is resumed by the next call. Several processes can fetch at the same time.

    Args:
        store: The store to fetch into.
        offers: What the remotes have.
        digests: Digests that the store needs, with all that they depend on.
        advance: Takes the bytes of packs, as they arrive.

    Raises:
        MissingError: No remote has some of the digests. The others were fetched.
        RemoteError: The same, and a remote could not be reached.
        StoreError: The store cannot be written.
    """
    wanted = set(digests)
    missing = store.touch_and_find_missing(wanted)
    fetched, tally = Fetched(), Tally(advance)
    forget_abandoned(store.root)
    while missing:
        packs, _ = offers.choose(missing)
        if packs:
            bring_packs(store, offers, packs, fetched, tally)
        else:
            # Another process may have stored packs and not added them to the index yet, or have been killed before.
            store.refresh()
        missing = store.touch_and_find_missing(wanted)
        if not packs:
            break
    if missing:
        raise offers.lack(missing, len(wanted))
    return fetched
