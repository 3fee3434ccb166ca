"""Push and fetch tensors by digest: choose the packs, move them, and verify them."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from git_theta_ext.errors import CorruptError, MissingError, RemoteError, ThetaError
from git_theta_ext.store.deltas.chains import ancestors, shallowest, smallest
from git_theta_ext.store.locations import Location, in_packs
from git_theta_ext.store.maintenance.copying import whole_again
from git_theta_ext.store.maintenance.extract import extract_packs
from git_theta_ext.store.packs.reader import read_pack_header
from git_theta_ext.store.packs.writer import grouped
from git_theta_ext.transfer.arrived import keep_sound
from git_theta_ext.transfer.incoming import bring_pack, forget_abandoned
from git_theta_ext.transfer.outgoing import Going, PushPlan, PushSteps, keep, upload
from git_theta_ext.transfer.remote_index import known_better, read_remote_index
from git_theta_ext.util.threads import no_progress, ordered_map

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

    from git_theta_ext.model.tensor import Digest
    from git_theta_ext.store.packs.format import PackHeader
    from git_theta_ext.store.store import Store
    from git_theta_ext.transfer.remote_index import OpenedRemote

_DOWNLOADS = 8
_PLANS = 3


def plan_push(
    store: Store,
    remote: OpenedRemote,
    digests: Iterable[Digest],
    steps: PushSteps | None = None,
) -> PushPlan:
    """Find the packs that a remote lacks, and make new packs if the existing ones have other tensors too.

    All pushed tensors are verified first. An entry of a pack on the remote does not count if it is bad in the pack of
    the same name in this store.

    Args:
        store: The store that has the tensors.
        remote: The remote to push to.
        digests: Digests that the remote needs, with all that they depend on.
        steps: Additional steps.

    Raises:
        MissingError: Neither the store nor the remote has some of the digests.
        RemoteError: The remote cannot be reached.
        StoreError: The store cannot be written.
    """
    wanted, steps = set(digests), steps or PushSteps()
    if not wanted:
        return PushPlan()
    index = known_better(store, read_remote_index(store, remote), wanted)
    there = index.held()
    if absent := store.touch_and_find_missing(wanted - there):
        wanted -= steps.obtain(absent)
        index = known_better(store, read_remote_index(store, remote), wanted)
        there = index.held()
    lacking = wanted - there
    if absent := store.touch_and_find_missing(lacking):
        raise MissingError(
            f"{len(absent)} of {len(wanted)} tensors are neither in the store nor on {remote.name} ({remote.url}), "
            f"including {min(absent)}",
            hint="run git theta push --all in a clone that has them; git theta fsck --remote says what needs them",
        )
    if lacking:
        steps.prepare(Going(lacking, there))
    needed = extract_packs(store, lacking, there)
    after = {**index.headers, **{name: read_pack_header(store.path_of(name)) for name in needed}}
    if deep := wanted - replace(index, headers=after).held():
        # On the remote their chains would be too deep to be read.
        needed |= set(store.write(grouped([whole_again(store, digest) for digest in sorted(deep)]), loose=True))
        after = {**after, **{name: read_pack_header(store.path_of(name)) for name in needed}}
    chosen = shallowest(in_packs(after, bad=index.bad))
    relied_on = {chosen[digest].pack for digest in ancestors(wanted, chosen)}
    sizes = ((name, store.path_of(name).stat().st_size) for name in needed - set(index.headers))
    unlisted = {name for name in set(index.headers) - index.indexed if store.has_intact(name)}
    unlisted -= {name for name, _ in index.bad}
    packs = sorted(sizes, key=lambda pack: (-pack[1], pack[0]))
    return PushPlan(tuple(packs), tuple(sorted(unlisted)), frozenset(relied_on))


def push(
    store: Store,
    remote: OpenedRemote,
    digests: Iterable[Digest],
    steps: PushSteps | None = None,
    advance: Callable[[int], None] = no_progress,
) -> PushPlan:
    """Push tensors to a remote, with all that they depend on; see ``plan_push`` and ``upload``.

    Packs that the remote has are not uploaded again. They are protected from garbage collection there, and uploaded if
    they are gone after all.

    Returns:
        The plan that was carried out.
    """
    wanted = set(digests)
    for left in reversed(range(_PLANS)):
        plan = plan_push(store, remote, wanted, steps)
        try:
            upload(store, remote, plan, advance)
        except (MissingError, RemoteError, FileNotFoundError):
            # Another process may have recoded the planned packs.
            if not left or all(store.has_pack(name) for name, _ in plan.packs):
                raise
            store.refresh()
        else:
            gone = plan.relied_on - keep(remote, plan.relied_on)
            if not gone:
                break
            if not left:
                raise RemoteError(
                    f"{remote.name} ({remote.url}) removed pack {min(gone)} right after the push",
                    hint="wait until the garbage collection on the remote has finished, then git push",
                )
    return plan


@dataclass
class Fetched:
    """The result of ``fetch``.

    Attributes:
        packs: Number of downloaded packs.
        nbytes: Their size in bytes.
    """

    packs: int = 0
    nbytes: int = 0


@dataclass
class _Offers:
    """The packs of the remotes read so far, with the remotes that have each of them."""

    headers: dict[str, PackHeader] = field(default_factory=dict)
    remotes: dict[str, list[OpenedRemote]] = field(default_factory=dict)

    def add(self, remote: OpenedRemote, headers: Mapping[str, PackHeader]) -> None:
        for name, header in headers.items():
            self.headers.setdefault(name, header)
            self.remotes.setdefault(name, []).append(remote)


def fetch(
    store: Store,
    remotes: Sequence[OpenedRemote],
    digests: Iterable[Digest],
    advance: Callable[[int], None] = no_progress,
) -> Fetched:
    """Fetch missing tensors. A remote is used only for tensors that the remotes before it lack.

    An interrupted download is resumed by the next call. Several processes can fetch at the same time.

    Args:
        store: The store to fetch into.
        remotes: The remotes, in order of preference.
        digests: Digests that the store needs, with all that they depend on.
        advance: Called with the size of each downloaded pack.

    Raises:
        MissingError: No remote has some of the digests. The others were fetched.
        RemoteError: The same, and a remote could not be reached.
        StoreError: The store cannot be written.
    """
    wanted = set(digests)
    missing = store.touch_and_find_missing(wanted)
    offers, fetched = _Offers(), Fetched()
    failures: list[ThetaError] = []
    queue = list(remotes)
    forget_abandoned(store.root)
    while missing:
        packs, complete = choose(missing, offers.headers, store)
        if queue and not (complete and packs):
            remote = queue.pop(0)
            try:
                offers.add(remote, read_remote_index(store, remote).headers)
            except ThetaError as error:
                failures.append(error)
            continue
        if not packs:
            # Another process may have stored packs and not added them to the index yet, or have been killed before.
            store.refresh()
            missing = store.touch_and_find_missing(wanted)
            break
        failures += _download(store, offers, packs, fetched, advance)
        missing = store.touch_and_find_missing(wanted)
    if missing:
        raise _explain(missing, len(wanted), remotes, failures)
    return fetched


def choose(missing: Iterable[Digest], headers: Mapping[str, PackHeader], store: Store) -> tuple[dict[str, int], bool]:
    """Choose packs with the missing digests and all that these depend on.

    Args:
        missing: The missing digests.
        headers: Headers of the available packs, by name.
        store: The store. Bases that it has are not fetched, nor are entries that it knows to be bad.

    Returns:
        Name and size in bytes of each pack, and whether no digest is missing afterwards.
    """
    wanted, rejected = set(missing), store.rejected()
    bases = {base for header in headers.values() for entry in header.entries for base in entry.bases}
    here = store.locations(bases | wanted)
    local = set(shallowest(here)) - wanted
    offered = in_packs(headers, local, bad=rejected)
    for digest in set(here) - local:
        # A local delta whose base is missing: only the base has to be fetched.
        stranded = (
            Location("", "", 0, 0, location.bases)
            for location in here[digest]
            if (location.pack, digest) not in rejected
        )
        offered[digest] = (*offered.get(digest, ()), *stranded)
    best = smallest(offered)
    chosen: dict[str, int] = {}
    todo, seen = wanted & set(best), set(local)
    while todo:
        digest = todo.pop()
        seen.add(digest)
        name = best[digest].pack
        if name and not store.has_intact(name):
            chosen[name] = headers[name].pack_bytes
        todo |= set(best[digest].bases) - seen
    return chosen, wanted <= set(best)


def _download(
    store: Store, offers: _Offers, packs: Mapping[str, int], fetched: Fetched, advance: Callable[[int], None]
) -> list[ThetaError]:
    failures: list[ThetaError] = []
    names = sorted(packs, key=lambda name: (-packs[name], name))

    def bring(name: str) -> list[ThetaError]:
        return bring_pack(store, name, packs[name], offers.remotes[name])

    with ThreadPoolExecutor(_DOWNLOADS) as executor:
        for name, problems in zip(names, ordered_map(executor, bring, names, 2 * _DOWNLOADS), strict=True):
            if store.has_intact(name):
                fetched.packs += 1
                fetched.nbytes += packs[name]
                advance(packs[name])
            failures += problems
    for name, wrong in keep_sound(store, [name for name in names if store.has_intact(name)]).items():
        failures.append(
            CorruptError(f"{offers.remotes[name][0].url}: {wrong}", hint="run git theta fsck --full on the remote")
        )
    for name in names:
        # A failed pack is not tried again.
        del offers.headers[name], offers.remotes[name]
    return failures


def _explain(
    missing: set[Digest], wanted: int, remotes: Sequence[OpenedRemote], failures: Sequence[ThetaError]
) -> ThetaError:
    searched = ", ".join(f"{remote.name} ({remote.url})" for remote in remotes)
    where = f"searched {searched}" if remotes else "no remote is configured"
    message = f"{len(missing)} of {wanted} tensors are not in the store, including {min(missing)}; {where}"
    if failures:
        message += "; " + "; ".join(dict.fromkeys(failure.message for failure in failures))
    unreachable = [failure for failure in failures if isinstance(failure, RemoteError)]
    if unreachable:
        return RemoteError(message, hint=unreachable[0].hint or "try again; downloaded packs are kept")
    return MissingError(
        message, hint="run git theta push --all in a clone that has them; git theta fsck says which files need them"
    )
