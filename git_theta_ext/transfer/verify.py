"""Verify that a remote has the tensors that are about to be removed from the store."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from enum import Enum, auto
from typing import TYPE_CHECKING

from git_theta_ext.errors import CorruptError, MissingError, StoreError
from git_theta_ext.model.remote_keys import pack_key
from git_theta_ext.records import replace
from git_theta_ext.store.deltas.chains import ancestors, shallowest
from git_theta_ext.store.locations import filtered, flattened, in_packs, sound
from git_theta_ext.transfer.damaged import note_damaged
from git_theta_ext.transfer.downloads import Downloads, StoredBases
from git_theta_ext.transfer.meter import Tally
from git_theta_ext.transfer.remote_index import known_better, read_head, read_remote_index
from git_theta_ext.transfer.retry import retried
from git_theta_ext.util.threads import no_progress, ordered_map

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence
    from collections.abc import Set as AbstractSet

    from git_theta_ext.cluster.jobs import Workers
    from git_theta_ext.model.tensor import Digest
    from git_theta_ext.store.packs.format import PackHeader
    from git_theta_ext.store.store import Store
    from git_theta_ext.transfer.job_downloads import JobDownloads
    from git_theta_ext.transfer.places import RemotePlace
    from git_theta_ext.transfer.remote_index import OpenedRemote, RemoteIndex
    from git_theta_ext.util.reporter import Progress

_READERS = 16


class _Look(Enum):
    """What a remote has under the name of a pack."""

    INTACT = auto()
    ABSENT = auto()
    DAMAGED = auto()


def verified(  # noqa: PLR0913 - named
    store: Store,
    remote: OpenedRemote,
    wanted: Iterable[Digest],
    *,
    download: bool = False,
    jobs: tuple[Workers, RemotePlace] | None = None,
    advance: Progress = no_progress,
) -> set[Digest]:
    """Return those of some digests that a remote has now, with all that they depend on.

    Cached data is not trusted: the head and the last byte of every pack in question are read from the remote. Only
    verified packs count, which this store has or had under the same name, the SHA-256 of their bytes. Packs that turn
    out to be damaged are recorded, so that a push replaces them.

    Args:
        store: The store, which has the records of the remote.
        remote: The remote.
        wanted: Digests of interest.
        download: Download these packs, compare their bytes with their names, and decode entries that were not decoded
            before.
        jobs: Run jobs that do this, and where they find the remote; None to do it here.
        advance: Takes the bytes of packs, as they are downloaded or were compared.

    Raises:
        RemoteError: The remote cannot be reached.
        StoreError: The disk is full.
    """
    digests = set(wanted)
    index = known_better(store, read_remote_index(store, remote), digests)
    stored = _stored_as(index, digests)
    wanted_there = set(stored.values())
    headers, bad, good = dict(index.headers), set(index.bad), _sound_entries(store, index.headers)
    if download:
        headers = replace(index, packs=index.packs | index.damaged).headers  # they may have been replaced
    downloads: Downloads | JobDownloads = Downloads(store.root, remote, StoredBases(store), good, store.threads)
    if jobs is not None:
        from git_theta_ext.transfer.job_downloads import JobDownloads  # of clusters only

        downloads = JobDownloads(*jobs, good)
    tally = Tally(advance)
    checked: set[str] = set()
    while True:
        offered = in_packs(headers, bad=bad)
        if not download:
            offered = filtered(offered, lambda digest, location: (location.pack, digest) in good)
        chosen = shallowest(offered)
        needed = {chosen[digest].pack for digest in ancestors(wanted_there & set(chosen), chosen)}
        names = sorted(needed - checked)
        if not names:
            return {digest for digest in digests if stored[digest] in chosen}
        checked.update(names)
        for name in names:
            tally.expect(pack_key(name), headers[name].pack_bytes)
        looks = _look_at(remote, headers, names)
        present = [name for name in names if looks[name] is _Look.INTACT]
        damaged = {name for name in names if looks[name] is _Look.DAMAGED}
        if download:
            with remote.meter.watched(tally.report):
                present = downloads.decode(headers, present, lambda name: tally.finish(pack_key(name)))
            _note(store, downloads, headers, present)
            damaged |= downloads.damaged
            bad.update(
                (name, e.digest) for name in present for e in headers[name].entries if (name, e.digest) not in good
            )
        note_damaged(store.root, remote.url, damaged, set(present) if download else frozenset())
        for name in names:
            tally.finish(pack_key(name))
        for name in set(names) - set(present):
            del headers[name]


def _stored_as(index: RemoteIndex, digests: AbstractSet[Digest]) -> dict[Digest, Digest]:
    """Return what some tensors are stored as on a remote: bundles, even those that are damaged, or the tensors."""
    stored = index.stored_as(digests)
    left = index.heads.parts(digest for digest, held in stored.items() if digest == held)
    return stored | {digest: bundle for digest, ((bundle, _), *_) in left.items()}


def _note(
    store: Store, downloads: Downloads | JobDownloads, headers: Mapping[str, PackHeader], whole: Iterable[str]
) -> None:
    """Record what decoding packs has shown, by their names."""
    with suppress(StoreError):  # then they are decoded again next time
        for name, digest in downloads.bad:
            store.verdicts.note_bad(name, digest)
        for name in whole:
            if all((name, entry.digest) in downloads.good for entry in headers[name].entries):
                store.verdicts.note_sound(name)


def _sound_entries(store: Store, headers: Mapping[str, PackHeader]) -> set[tuple[str, Digest]]:
    """Return pack name and digest of the verified entries of packs with these names."""
    before = store.verdicts.sound_packs()
    entries = {(name, entry.digest) for name, header in headers.items() if name in before for entry in header.entries}
    here = sound(store.locations({entry.digest for header in headers.values() for entry in header.entries}))
    return entries | {(location.pack, digest) for digest, location in flattened(here)}


def _look_at(remote: OpenedRemote, headers: Mapping[str, PackHeader], names: Sequence[str]) -> dict[str, _Look]:
    """Compare head and size of packs on a remote with the expected ones."""
    with ThreadPoolExecutor(_READERS) as executor:
        looks = ordered_map(executor, lambda name: _look(remote, name, headers[name]), names, 2 * _READERS)
        return dict(zip(names, looks, strict=True))


def _look(remote: OpenedRemote, name: str, header: PackHeader) -> _Look:
    last = header.pack_bytes - 1
    try:
        same = read_head(remote, name).header == header
        same = same and len(retried(lambda: remote.plugin.get(pack_key(name), last, last + 2))) == 1
    except MissingError:
        return _Look.ABSENT
    except CorruptError:
        return _Look.DAMAGED
    return _Look.INTACT if same else _Look.DAMAGED
