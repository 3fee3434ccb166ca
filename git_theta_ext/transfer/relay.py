"""Copy tensors from other remotes to a remote, since a clone has only what it checked out."""

from __future__ import annotations

import shutil
import time
from contextlib import closing, contextmanager, suppress
from secrets import token_hex
from typing import TYPE_CHECKING

from git_theta_ext.errors import CorruptError, MissingError, RemoteError, ThetaError
from git_theta_ext.records import dataclass
from git_theta_ext.store.deltas.chains import ancestors, smallest
from git_theta_ext.store.store import Store
from git_theta_ext.transfer.offers import Offers, offered
from git_theta_ext.transfer.sync import fetch, push
from git_theta_ext.util.files import reporting_os_errors
from git_theta_ext.util.threads import no_progress

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    from git_theta_ext.model.tensor import Digest
    from git_theta_ext.store.locations import Location
    from git_theta_ext.transfer.remote_index import OpenedRemote
    from git_theta_ext.util.reporter import Progress

_BATCH = 1 << 30
"""Bytes of packs that are fetched before they are uploaded and removed. A single chain may exceed this."""

_ABANDONED_SECONDS = 24 * 3600


@dataclass(frozen=True)
class Relayed:
    """The result of ``relay``.

    Attributes:
        left: Digests that no remote provided.
        failures: Errors of remotes.
        packs: Number of uploaded packs.
        nbytes: Their size in bytes.
    """

    left: frozenset[Digest]
    failures: tuple[ThetaError, ...] = ()
    packs: int = 0
    nbytes: int = 0


def relay(
    store: Store,
    sources: Sequence[OpenedRemote],
    target: OpenedRemote,
    digests: Iterable[Digest],
    advance: Progress = no_progress,
) -> Relayed:
    """Fetch tensors from some remotes and push them to another, in batches, without adding them to the store.

    Args:
        store: Tensors that it has are not fetched.
        sources: The remotes to fetch from, in order of preference.
        target: The remote to push to.
        digests: Digests that the target needs.
        advance: Called with the numbers of bytes fetched and uploaded since the last call.

    Raises:
        RemoteError: The target failed.
        StoreError: The disk is full.
    """
    left = set(digests)
    offers = Offers(store, sources)
    offers.read_all()
    failures = list(offers.failures)
    packs = nbytes = 0
    stored = offers.stored_as(left)
    best = smallest(offered(set(stored.values()), offers.locations, store))
    sizes = {name: offers.pack_bytes(name) for name in {location.pack for location in best.values()} - {""}}
    for entries in _batches(set(stored.values()) & set(best), best, sizes):
        batch = {digest for digest, held in stored.items() if held in entries}
        with _temporary_store(store) as passing:
            try:
                fetch(passing, sources, batch, advance)
            except (CorruptError, MissingError, RemoteError) as error:
                failures.append(error)
            come = batch - passing.touch_and_find_missing(batch)
            plan = push(passing, target, come, advance=advance)
            left -= come
            packs += len(plan.packs)
            nbytes += plan.nbytes
    return Relayed(frozenset(left), tuple(failures), packs, nbytes)


def _batches(
    digests: Iterable[Digest], best: Mapping[Digest, Location], sizes: Mapping[str, int]
) -> Iterator[set[Digest]]:
    """Divide digests into batches, so that the packs that a batch is decoded from stay below the limit."""
    batch: set[Digest] = set()
    packs: set[str] = set()
    total = 0
    for digest in sorted(digests, key=lambda digest: (best[digest].pack, digest)):
        needed = {best[base].pack for base in ancestors([digest], best)} - {""}
        more = sum(sizes[name] for name in needed - packs)
        if batch and total + more > _BATCH:
            yield batch
            batch, packs, more = set(), set(), sum(sizes[name] for name in needed)
            total = 0
        batch.add(digest)
        packs |= needed
        total += more
    if batch:
        yield batch


@contextmanager
def _temporary_store(store: Store) -> Iterator[Store]:
    """Open a temporary store that has the given store as an alternate, and remove it at the end."""
    directory = store.root / "passing"
    _remove_abandoned(store)
    root = directory / token_hex(8)
    with reporting_os_errors(root):
        root.mkdir(parents=True)
        (store.root / "remotes").mkdir(exist_ok=True)
        # The records of remotes are the same for both stores.
        (root / "remotes").symlink_to(store.root / "remotes")
    roots = dict.fromkeys([store.root, *(root for root, _ in store.pack_files())])
    try:
        with closing(Store(root, list(roots), store.threads)) as passing:
            yield passing
    finally:
        shutil.rmtree(root, ignore_errors=True)
        with suppress(OSError):
            directory.rmdir()


def _remove_abandoned(store: Store) -> None:
    """Remove temporary stores that killed pushes left at least a day ago."""
    with suppress(OSError):
        for path in (store.root / "passing").iterdir():
            if time.time() - path.stat().st_mtime > _ABANDONED_SECONDS:
                shutil.rmtree(path, ignore_errors=True)
