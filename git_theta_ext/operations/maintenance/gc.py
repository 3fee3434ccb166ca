"""Store old versions as deltas and remove unreachable data: ``git theta gc``, run by hand or automatically."""

from __future__ import annotations

from contextlib import ExitStack, contextmanager, suppress
from functools import cache, partial
from itertools import chain, filterfalse
from typing import TYPE_CHECKING

from git_theta_ext.errors import CorruptError, MissingError
from git_theta_ext.git.objects import local_blobs, named_digests
from git_theta_ext.operations.distribution import distributed, distributed_by_remote
from git_theta_ext.operations.history.versions import versions
from git_theta_ext.operations.maintenance.idle import read_idle, state_of, write_idle
from git_theta_ext.operations.maintenance.new_tensors import few_of, relatives, wanted_of
from git_theta_ext.records import dataclass, field
from git_theta_ext.store.deltas.chains import ancestors, smallest
from git_theta_ext.store.locations import sound
from git_theta_ext.store.maintenance.extract import starting_within
from git_theta_ext.store.maintenance.gc import Garbage, collect, repack, wait_for_clock, wasted
from git_theta_ext.store.maintenance.recode import Recoded, Recoder
from git_theta_ext.store.maintenance.shrink import shrunk_garbage
from git_theta_ext.store.maintenance.write_plans import write_plans

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from collections.abc import Set as AbstractSet

    from git_theta_ext.cluster.jobs import Workers
    from git_theta_ext.git.repository import Repository
    from git_theta_ext.model.tensor import Digest, TensorSpec
    from git_theta_ext.operations.history.versions import Version
    from git_theta_ext.operations.maintenance.new_tensors import Few
    from git_theta_ext.operations.sync.outgoing import Outgoing
    from git_theta_ext.operations.workspace import Workspace
    from git_theta_ext.store.exchange import Exchange
    from git_theta_ext.store.maintenance.recode import WritePlans
    from git_theta_ext.store.store import Store
    from git_theta_ext.transfer.outgoing import Going


_AREA = "gc"
"""Key of the work area; one garbage collection runs at a time."""


@dataclass(frozen=True)
class GcOptions:
    """Options of a garbage collection.

    Attributes:
        older_than: Remove unreachable tensors that were stored or used before this time, in seconds since the epoch.
        aggressive: Reconsider every tensor, and try every encoding.
        dry_run: Only report what would change.
    """

    older_than: float
    aggressive: bool = False
    dry_run: bool = False


@dataclass(frozen=True)
class Collected:
    """What a collection did, or would do.

    Attributes:
        recoded: Number of tensors that are now stored as deltas.
        garbage: Packs that were removed.
        freed: Size of these packs in bytes; in a dry run also the bytes that repacking other packs would free.
        repacked: Number of packs whose content was copied into others.
        shrunk: Number of bundles that were stored again, because most of them was not needed.
    """

    recoded: Recoded = field(default_factory=Recoded)
    garbage: Garbage = field(default_factory=Garbage)
    freed: int = 0
    repacked: int = 0
    shrunk: int = 0

    @property
    def changed(self) -> bool:
        """Whether anything was recoded, copied or removed."""
        removed = self.garbage.redundant or self.garbage.dead
        return bool(self.recoded.tensors or removed or self.repacked or self.shrunk)


def live_digests(repo: Repository) -> set[Digest]:
    """Return the digests that any manifest in git's object database names, whether it is reachable or not.

    If a manifest is not valid or has conflicts, everything in it that looks like a digest counts.

    Raises:
        RepositoryError: Git cannot read its objects.
    """
    return named_digests(repo, local_blobs(repo))


def maintain(workspace: Workspace, options: GcOptions) -> Collected:
    """Recode the tensors of history, and remove packs that are not needed. The caller holds ``store.locks.gc_lock``.

    Args:
        workspace: The repository and its store.
        options: How thorough to be, and from which time on to keep unreachable tensors.
        show: Shows how many of how many bytes of tensors are recoded.

    Raises:
        StoreError: The store cannot be written; no data is lost.
        CorruptError: A stored tensor cannot be decoded; tensors that depend on it are left unchanged.
        RepositoryError: Git cannot walk the history.
    """
    store = workspace.store
    store.refresh()
    state = state_of(workspace)
    if not options.aggressive and (idle := read_idle(store, state, options.older_than)) is not None:
        return Collected(garbage=Garbage(young=idle.young, waiting=idle.waiting))
    loose = store.index.loose(str(store.root))
    depth = workspace.settings.chain_depth
    new = None if options.aggressive else _entries(store, loose)
    proven = store.all_proven()
    history = versions(workspace.repo) if new is None or not proven else relatives(workspace.repo, new)
    with _writing(workspace, options) as write:
        if not proven:
            named = store.with_bundles(_named(history))
            own = {
                digest
                for digest, locations in store.all_locations().items()
                if any(location.root == str(store.root) for location in locations)
            }
            store.prove(named & own, partial(smallest, depth=depth))
        few = None if new is None else few_of(history, new, depth)
        related = None if few is None else few.related
        recoder = Recoder(
            store,
            depth,
            aggressive=options.aggressive,
            dry_run=options.dry_run,
            related=related,
            stored=store.stored_as(_named(history) if related is None else related),
            write=write,
        )
        wanted = recoder.wanted(_named(history))
        with workspace.reporter.progress("recoding", sum(_sizes(history, wanted).values())) as advance:
            recoded = recoder.run(wanted_of(history, few, wanted), advance)
    if recoded.tensors and not options.dry_run:
        wait_for_clock()
    store.refresh()  # recoding may have taken long
    named = live_digests(workspace.repo)
    older, dry = options.older_than, options.dry_run
    garbage, shrinking = shrunk_garbage(store, named, older, recoder.planned, depth, dry_run=dry)
    shrunk = len(shrinking.replaced)
    if options.dry_run:
        freed = garbage.nbytes + wasted(store, garbage) - shrinking.nbytes
        return Collected(recoded, garbage, freed, shrunk=shrunk)
    store.index.mark_recoded(str(store.root), loose)
    freed = collect(store, garbage, options.older_than)
    repacked = repack(store, garbage)
    store.index.compact()
    done = Collected(recoded, garbage, freed, repacked, shrunk)
    if not done.changed:
        write_idle(store, state, garbage)
    return done


@contextmanager
def _writing(workspace: Workspace, options: GcOptions) -> Iterator[WritePlans]:
    """Give what writes recoded packs: jobs, if ``theta.cluster`` is set; those of a killed run are added."""
    if workspace.settings.cluster is None or options.dry_run:
        yield write_plans
        return
    from git_theta_ext.store.exchange import SharedStore
    from git_theta_ext.store.maintenance.write_jobs import write_plans_in_jobs

    if (name := workspace.settings.cluster_remote) is None:
        with distributed(workspace, _AREA) as (workers, area):
            exchange = SharedStore(workspace.store, area, loose=False)
            for _ in exchange.left():
                pass
            yield partial(write_plans_in_jobs, workers, exchange)
        return
    with ExitStack() as opened:  # a collection that recodes nothing needs no remote

        @cache
        def by_remote() -> tuple[Workers, Exchange]:
            return opened.enter_context(distributed_by_remote(workspace, name, bring=True))

        yield lambda *plans: write_plans_in_jobs(*by_remote(), *plans)


def recode_outgoing(workspace: Workspace, going: Going, needed: Outgoing) -> Recoded:
    """Recode the tensors that a push is about to upload. The caller holds ``store.locks.gc_lock``.

    Args:
        workspace: The repository and its store.
        going: The tensors. Their deltas depend only on each other and on tensors that the remote has.
        needed: What the push needs, of which these are a part.

    Raises:
        StoreError: The store cannot be written; no data is lost.
        CorruptError: A stored tensor cannot be decoded.
        ThetaError: An upload has failed.
    """
    named = going.stored.keys()
    history = relatives(workspace.repo, named, needed.read)
    if not history:  # a first version has no parents
        return Recoded()
    few = few_of(history, named, workspace.settings.chain_depth)
    recoder = _recoder(workspace, going, few, history)
    names = recoder.wanted_names(going.digests)
    todo = named if names == going.digests else {digest for digest, name in going.stored.items() if name in names}
    going.upload(going.digests - names)
    with workspace.reporter.progress("recoding", needed.nbytes(todo)) as progress:

        def advance(nbytes: int) -> None:
            progress(nbytes)
            going.upload(())

        return recoder.run(wanted_of(history, few, todo), advance, going.upload)


def estimate_outgoing(
    workspace: Workspace, going: Going, sizes: Mapping[Digest, int], shares: Mapping[Digest, float]
) -> int:
    """Return about how many bytes a push uploads after recoding, without writing anything.

    Args:
        workspace: The repository and its store.
        going: The tensors, which the store has.
        sizes: Their sizes in bytes. They count for tensors that have to be stored again without their parent.
        shares: The share of bundles that remains if they are stored again without tensors that are not pushed.

    Raises:
        CorruptError: A stored tensor cannot be decoded.
    """
    store, digests, named = workspace.store, going.digests, going.stored.keys()
    history = relatives(workspace.repo, named)
    few = few_of(history, named, workspace.settings.chain_depth)
    recoder = _recoder(workspace, going, few, history, dry_run=True)
    recoder.run(wanted_of(history, few, recoder.wanted(named)))
    held = smallest(starting_within(sound(store.locations(digests)), digests, going.there))
    chosen = {digest: one for digest, one in {**held, **recoder.planned}.items() if digest not in going.there}
    needed = ancestors(digests & chosen.keys(), chosen)
    return sum(int(chosen[digest].stored * shares.get(digest, 1)) for digest in needed & chosen.keys()) + sum(
        sizes[digest] for digest, stored in going.stored.items() if stored not in chosen
    )


def _named(history: Sequence[Version]) -> set[Digest]:
    return set(_each_named(history))


def _each_named(history: Sequence[Version]) -> Iterator[Digest]:
    """Yield the digests of all versions; what several versions have comes several times."""
    return chain.from_iterable(version.manifest.named for version in history)


def _recoder(
    workspace: Workspace, going: Going, few: Few | None, history: Sequence[Version], *, dry_run: bool = False
) -> Recoder:
    related = None if few is None else few.related
    others = set(filterfalse(going.stored.__contains__, _each_named(history) if related is None else related))
    stored = {**workspace.store.stored_as(others, going.there), **going.stored} if others else going.stored
    return Recoder(
        workspace.store,
        workspace.settings.chain_depth,
        dry_run=dry_run,
        going=(going.digests, going.there),
        related=related,
        stored=stored,
    )


def _entries(store: Store, names: AbstractSet[str]) -> set[Digest]:
    """Return the tensors in some packs of a store; those of damaged packs are left out."""
    digests: set[Digest] = set()
    for name in names:
        with suppress(CorruptError, MissingError):
            entries = store.reader.header(store.pack_path(name)).entries
            digests.update(entry.digest for entry in entries)
            digests.update(*(entry.bundle.digests() for entry in entries if entry.bundle is not None))
    return digests


def _sizes(history: Sequence[Version], wanted: AbstractSet[Digest]) -> dict[Digest, int]:
    """Return the sizes in bytes of the tensors in history that are wanted."""
    specs: dict[Digest, TensorSpec] = {}
    for version in history:
        columns = version.manifest.columns
        specs.update(zip(columns.digests, columns.specs, strict=True))
    return {digest: spec.nbytes for digest, spec in specs.items() if digest in wanted}
