"""Verify packs of a remote in jobs, each of which downloads some of them to a machine of its own."""

from __future__ import annotations

from collections import defaultdict
from functools import partial
from typing import TYPE_CHECKING

from git_theta_ext.cluster.jobs import Job, divided
from git_theta_ext.records import dataclass
from git_theta_ext.store.deltas.chains import ancestors
from git_theta_ext.store.locations import in_pack
from git_theta_ext.store.read_ahead import largest_piece
from git_theta_ext.transfer.downloads import Downloads
from git_theta_ext.transfer.job_exchange import RemoteInputs
from git_theta_ext.util.threads import window

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

    from git_theta_ext.cluster.jobs import Workers
    from git_theta_ext.model.tensor import Digest
    from git_theta_ext.store.deltas.decode import Blobs
    from git_theta_ext.store.locations import Location, Locations
    from git_theta_ext.store.packs.format import Entry, PackHeader
    from git_theta_ext.store.packs.reader import StoredBlob
    from git_theta_ext.transfer.downloads import Named
    from git_theta_ext.transfer.places import RemotePlace


@dataclass(frozen=True)
class CheckedPacks:
    """What a job has found; see ``Downloads``."""

    whole: tuple[str, ...]
    good: frozenset[Named]
    bad: frozenset[Named]
    damaged: frozenset[str]


class JobDownloads:
    """Verifies packs in jobs; see ``Downloads``.

    Packs come after those that they depend on, of which a job downloads the tensors that it needs. Packs that depend on
    each other come together.

    Args:
        workers: Run the jobs.
        place: The remote.
        good: As for ``Downloads``.

    Attributes:
        good: As in ``Downloads``.
        bad: As in ``Downloads``.
        damaged: As in ``Downloads``.
    """

    def __init__(self, workers: Workers, place: RemotePlace, good: set[Named]) -> None:
        self.good = good
        self.bad: set[Named] = set()
        self.damaged: set[str] = set()
        self._workers = workers
        self._place = place
        self._proven: dict[Digest, Location] = {}

    def decode(
        self, headers: Mapping[str, PackHeader], names: Sequence[str], checked: Callable[[str], None]
    ) -> list[str]:
        """Verify packs, and return the names of those whose bytes match their names; see ``Downloads``.

        Raises:
            ClusterError: The workers cannot run a job.
            MissingError: A pack was removed meanwhile.
            RemoteError: The remote cannot be reached.
        """
        whole: list[str] = []
        left = {name: headers[name] for name in names}
        while left:
            ready = self._ready(left)
            parts = divided(ready, [left[name].pack_bytes for name in ready]) or [[*left]]
            jobs = (self._job({name: left[name] for name in part}, headers) for part in parts)
            for part, found in zip(parts, self._workers.gather(jobs), strict=True):
                self.good |= found.good
                self.bad |= found.bad
                self.damaged |= found.damaged
                whole += found.whole
                for name in found.whole:
                    for digest, location in in_pack("", name, headers[name].entries):
                        if (name, digest) in self.good:
                            self._proven.setdefault(digest, location)
                for name in part:
                    checked(name)
            left = {name: header for name, header in left.items() if not any(name in part for part in parts)}
        return whole

    def _job(self, packs: Mapping[str, PackHeader], headers: Mapping[str, PackHeader]) -> Job[CheckedPacks]:
        entries = [entry for header in packs.values() for entry in header.entries]
        own = {entry.digest for entry in entries}
        outside = {base for entry in entries for base in entry.bases if base not in own or base in self._proven}
        trusted = {base: self._proven[base] for base in ancestors(outside & self._proven.keys(), self._proven)}
        needed: dict[str, list[Entry]] = defaultdict(list)
        for location in trusted.values():
            needed[location.pack].append(headers[location.pack].entries[location.entry])
        behind = RemoteInputs(
            self._place,
            {name: tuple(some) for name, some in needed.items()},
            {name: headers[name].pack_bytes for name in needed},
        )
        threads = self._workers.threads
        known = frozenset((name, e.digest) for name, header in packs.items() for e in header.entries) & self.good
        largest = max((largest_piece(entry.spec, 1)[0] * 8 for entry in entries), default=0)
        check = partial(_check, self._place, packs, known, behind, trusted, threads)
        return Job(check, largest * (window(threads) + 2))

    def _ready(self, left: Mapping[str, PackHeader]) -> list[str]:
        """Return the packs that depend on none of the others; empty if all depend on another one."""
        holders: dict[Digest, set[str]] = defaultdict(set)
        for name, header in left.items():
            for entry in header.entries:
                holders[entry.digest].add(name)
        return [
            name
            for name, header in left.items()
            if all(
                base in self._proven or holders.get(base, {name}) == {name}
                for entry in header.entries
                for base in entry.bases
            )
        ]


class _Given:
    """Tensors that were given to a job; see ``git_theta_ext.transfer.downloads.Bases``."""

    def __init__(self, blobs: Blobs, trusted: Mapping[Digest, Location]) -> None:
        self._blobs = blobs
        self._trusted = trusted

    def locations(self, digests: Iterable[Digest]) -> Locations:
        known = set(digests) & self._trusted.keys()
        return {digest: (self._trusted[digest],) for digest in ancestors(known, self._trusted)}

    def blob_at(self, digest: Digest, location: Location) -> StoredBlob:
        del location
        return self._blobs[digest]


def _check(  # noqa: PLR0913, PLR0917 - what a job gets
    place: RemotePlace,
    packs: Mapping[str, PackHeader],
    known: frozenset[Named],
    behind: RemoteInputs,
    trusted: Mapping[Digest, Location],
    threads: int,
) -> CheckedPacks:
    """Download and verify packs, given some entries that were verified before."""
    with behind.opened(threads) as store:
        downloads = Downloads(store.area, place.opened(), _Given(store.blobs, trusted), set(known), threads)
        whole = downloads.decode(packs, sorted(packs), lambda _: None)
    return CheckedPacks(
        tuple(whole), frozenset(downloads.good - known), frozenset(downloads.bad), frozenset(downloads.damaged)
    )
