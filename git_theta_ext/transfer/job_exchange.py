"""Give jobs their tensors, and take their packs, through a remote: no machine shares a file system with another.

A job reads the ranges of packs that it needs, and uploads the packs that it makes with their index entries. Both have
names by content, so a job that runs twice changes nothing. The process that asked for it downloads no tensor.
"""

from __future__ import annotations

from collections import defaultdict
from contextlib import contextmanager
from functools import partial
from typing import TYPE_CHECKING, Any

from git_theta_ext.errors import ConfigError, MissingError, RemoteError, ThetaError
from git_theta_ext.model.remote_keys import index_key, pack_key
from git_theta_ext.records import dataclass
from git_theta_ext.store.job_store import JobStore
from git_theta_ext.store.packs.finishing import pack_path
from git_theta_ext.store.packs.reader import StoredBlob, read_pack_header
from git_theta_ext.store.part_blobs import with_parts_of
from git_theta_ext.transfer.extracts import Extract
from git_theta_ext.transfer.incoming import bring_pack
from git_theta_ext.transfer.outgoing import keep, send_pack
from git_theta_ext.transfer.portions import REQUEST, coalesced
from git_theta_ext.transfer.remote_index import HeldDigests, RemoteIndex, read_head, read_remote_index
from git_theta_ext.transfer.retry import retried
from git_theta_ext.transfer.sync import push
from git_theta_ext.util.folders import private_directory
from git_theta_ext.util.quoting import shell_word

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
    from pathlib import Path

    from git_theta_ext.model.tensor import Digest
    from git_theta_ext.store.packs.format import Entry
    from git_theta_ext.store.store import Store
    from git_theta_ext.store.work_area import Delivery
    from git_theta_ext.transfer.places import RemotePlace
    from git_theta_ext.transfer.remote_index import OpenedRemote

_PREFIX = "git-theta-job."


@dataclass(frozen=True)
class RemoteInputs:
    """Inputs on a remote; see ``git_theta_ext.store.exchange.JobInputs``.

    Attributes:
        place: The remote.
        entries: What to read of each pack, by its name.
        nbytes: The size of each of these packs.
    """

    place: RemotePlace
    entries: Mapping[str, tuple[Entry, ...]]
    nbytes: Mapping[str, int]

    @contextmanager
    def opened(self, threads: int) -> Iterator[JobStore]:
        """Download the entries into a temporary directory of this machine, and give a store that reads them there."""
        with private_directory(_PREFIX) as folder:
            remote = self.place.opened() if self.entries else None
            blobs = {}
            for name, entries in self.entries.items():
                path = folder / name
                assert remote is not None
                _download(remote, name, entries, self.nbytes[name], path)
                blobs.update({entry.digest: StoredBlob(path, entry) for entry in read_pack_header(path).entries})
            yield JobStore(with_parts_of(blobs), (), folder / "made", threads)

    def deliver(self, store: JobStore, facts: list[Any]) -> None:
        """Upload the packs that the job has made, and then their index entries."""
        del facts  # they return with the result of the job
        if not store.packs:
            return
        remote, entries = self.place.opened(), {}
        for name in store.packs:
            path = pack_path(store.area, name)
            head = send_pack(remote, name, path)
            if head is None:
                raise RemoteError(
                    f"{remote.url} has a different file under the name of pack {name}",
                    hint=f"remove {pack_key(name)} on the remote, then repeat git merge or git theta gc",
                )
            entries[index_key(name)] = path.with_suffix(".head")
            entries[index_key(name)].write_bytes(head)
        retried(lambda: remote.plugin.publish(entries))


def _download(remote: OpenedRemote, name: str, entries: Sequence[Entry], nbytes: int, path: Path) -> None:
    """Write a pack that has some entries of a pack on a remote; the whole pack if the remote sends no ranges."""
    if not Extract(name, tuple(coalesced(entries, REQUEST))).write(path, remote):
        path.unlink(missing_ok=True)
        retried(lambda: remote.plugin.fetch(pack_key(name), path, nbytes))


class RemoteExchange:
    """An exchange by a remote; see ``git_theta_ext.store.exchange.Exchange``.

    Args:
        store: The store of the process that wants the results. What the remote lacks is uploaded from there.
        place: The remote.
        remote: The same, opened.
        bring: Whether the store gets the packs that jobs have made; else they are on the remote only.

    Raises:
        RemoteError: It cannot be reached.
    """

    def __init__(self, store: Store, place: RemotePlace, remote: OpenedRemote, *, bring: bool = False) -> None:
        self._store = store
        self._place = place
        self._remote = remote
        self._bring = bring
        self._made: set[str] = set()
        self._read()

    def _read(self) -> None:
        self._index: RemoteIndex = read_remote_index(self._store, self._remote)
        self._there = HeldDigests(self._index)
        self._current = True

    def provide(self, digests: Iterable[Digest]) -> set[Digest]:
        """Upload what the remote lacks, and return what neither it nor the store has; see ``Exchange``."""
        wanted = set(digests)
        lacking = wanted - self._there.among(wanted)
        if lacking and not self._current:
            self._read()
            lacking -= self._there.among(lacking)
        if here := lacking - self._store.touch_and_find_missing(lacking):
            push(self._store, self._remote, here)
            self._read()
            lacking -= self._there.among(lacking)
        return lacking

    def readable(self, digests: Iterable[Digest]) -> set[Digest]:
        """Return the digests that the remote has; see ``Exchange``."""
        return self._there.among(digests)

    def inputs(self, digests: Iterable[Digest]) -> RemoteInputs:
        """Return the inputs of a job; see ``Exchange``."""
        wanted = set(digests)
        if absent := self.provide(wanted):
            raise MissingError(f"{min(absent)} is neither in the store nor on {self._place.shown}")
        needed: dict[str, list[Entry]] = defaultdict(list)
        nbytes = {}
        stored = set(self._index.stored_as(wanted).values())
        for location in self._index.chosen(stored).values():
            header = self._index.heads.header(location.pack)
            if header is None:
                raise MissingError(f"pack {location.pack} is gone from {self._place.shown}")
            needed[location.pack].append(header.entries[location.entry])
            nbytes[location.pack] = header.pack_bytes
        return RemoteInputs(self._place, {name: tuple(needed[name]) for name in sorted(needed)}, nbytes)

    def left(self) -> Iterator[Delivery]:
        """Yield nothing: packs are on the remote, and the journal has the facts; see ``Exchange``."""
        yield from ()

    def add(self, packs: Sequence[str]) -> None:
        """Note that jobs have uploaded packs, and download these if the store is to have them; see ``Exchange``."""
        self._made.update(packs)
        self._current = self._current and not packs
        for name in packs if self._bring else ():
            self._store.verdicts.note_sound(name)  # by the job; the bytes are compared with the name
            nbytes = read_head(self._remote, name).header.pack_bytes
            _, failures = bring_pack(self._store, name, nbytes, [self._remote])
            if not self._store.has_intact(name):
                raise failures[0]

    def doubt(self, digests: Iterable[Digest]) -> None:
        """Warn that the remote has damaged packs: to find out which means to download them; see ``Exchange``."""
        self._store.warn(
            f"{self._place.shown} has damaged packs, such as one with tensor {min(digests)}; find them with"
            f" git theta fsck --remote {shell_word(self._place.name)} --full"
        )

    def close(self) -> None:
        """Check that the packs of the jobs are still there, and protect them from garbage collection on the remote.

        Raises:
            RemoteError: One is gone, or the remote cannot be reached.
        """
        if gone := self._made - keep(self._remote, self._made):
            raise RemoteError(
                f"{self._place.shown} removed pack {min(gone)} meanwhile", hint="repeat git merge or git theta gc"
            )


@dataclass(frozen=True)
class RemoteAccess:
    """Access of all machines to a remote; see ``git_theta_ext.cluster.probe.Access``."""

    place: RemotePlace

    @property
    def subject(self) -> str:
        """What machines have to reach."""
        return self.place.shown

    hint = "give each machine credentials in the environment of ray start, or git config theta.cluster local"

    @contextmanager
    def checked(self) -> Iterator[Callable[[], str]]:
        """Give the check that each machine makes: it lists packs."""
        yield partial(_reach, self.place)


def _reach(place: RemotePlace) -> str:
    try:
        next(iter(place.opened().plugin.list("packs/")), None)
    except ThetaError as error:
        return error.message
    return ""


def check_for_jobs(place: RemotePlace) -> None:
    """Check that jobs can open a remote by its URL.

    Raises:
        ConfigError: They cannot.
        PluginError: There is no plug-in for it.
    """
    if not place.plugin().schemes or not place.scheme:
        raise ConfigError(
            f"theta.clusterRemote {place.name}: jobs cannot use {place.shown}, which is no object store",
            hint=f"git config theta.remote.{shell_word(place.name)}.url s3://BUCKET/PREFIX",
        )
