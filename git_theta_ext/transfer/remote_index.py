"""The packs of a remote: their heads are read once, cached and indexed.

A remote has ``index/<pack>`` for each pack, which is exactly the head of the pack. If that is missing or damaged, since
the remote is a working repository or an upload was interrupted, the head is read from the pack itself.
"""

from __future__ import annotations

from collections.abc import Container
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from typing import TYPE_CHECKING, cast

from git_theta_ext.errors import CorruptError, MissingError
from git_theta_ext.model.remote_keys import index_key, pack_key, pack_of_index_key, pack_of_key
from git_theta_ext.records import dataclass, field, replace
from git_theta_ext.store.deltas.chains import closure, shallowest
from git_theta_ext.store.locations import Verdict, filtered, flattened
from git_theta_ext.store.packs.format import MAX_HEADER, PREFIX_BYTES, header_length, read_header
from git_theta_ext.store.parts import chosen_bundles, stored_as
from git_theta_ext.transfer.damaged import learn_damaged, read_damaged
from git_theta_ext.transfer.heads import FetchedHead, Heads
from git_theta_ext.transfer.meter import Meter
from git_theta_ext.transfer.retry import retried
from git_theta_ext.util.threads import ordered_map

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from collections.abc import Set as AbstractSet
    from pathlib import Path

    from git_theta_ext.interfaces import Remote
    from git_theta_ext.model.tensor import Digest
    from git_theta_ext.store.locations import Location, Locations
    from git_theta_ext.store.packs.format import PackHeader
    from git_theta_ext.store.store import Store

_READERS = 16
_GUESS = 1 << 16  # most heads are smaller, and an object store charges by the request


@dataclass(frozen=True)
class OpenedRemote:
    """A remote, opened.

    Attributes:
        name: Name of the git remote, or its URL if it has no name.
        url: URL of the packs, without credentials.
        plugin: The plug-in that accesses it.
        meter: Takes what the plug-in reports.
    """

    name: str
    url: str
    plugin: Remote
    meter: Meter = field(default_factory=Meter, compare=False)


@dataclass(frozen=True)
class RemoteIndex:
    """The content of a remote at one time.

    Attributes:
        packs: Names of all packs with a readable head but the damaged ones.
        indexed: Names of the packs that have an index entry.
        bad: Pack name and digest of entries that are known to be bad.
        damaged: Names of packs that were found damaged on this remote.
    """

    packs: frozenset[str]
    heads: Heads = field(repr=False)
    indexed: frozenset[str] = frozenset()
    bad: AbstractSet[tuple[str, Digest]] = frozenset()
    damaged: frozenset[str] = frozenset()

    @property
    def headers(self) -> dict[str, PackHeader]:
        """The headers of all packs but the damaged ones. Reading them takes as long as the history of the remote is."""
        headers = {name: self.heads.header(name) for name in sorted(self.packs)}
        return {name: header for name, header in headers.items() if header is not None}

    def locations(self, digests: Iterable[Digest]) -> Locations:
        """Return the locations of some digests on the remote; tensors that are only in bundles have none."""
        if not self.packs:
            return {}
        return filtered(
            self.heads.locations(digests),
            lambda digest, location: location.pack in self.packs and (location.pack, digest) not in self.bad,
        )

    def stored_as(self, digests: Iterable[Digest]) -> dict[Digest, Digest]:
        """Return the bundle that each of some tensors is read from, or the tensor itself if it is in none."""
        bundles = self.heads.bundles_of(digests)
        return stored_as(bundles, chosen_bundles(bundles, self.chosen) if self.packs else {})

    def chosen(self, digests: Iterable[Digest]) -> dict[Digest, Location]:
        """Return where some digests, and all that they depend on, are read from; others are not on the remote."""
        return shallowest(closure(digests, self.locations))

    def held(self, digests: Iterable[Digest]) -> set[Digest]:
        """Return those of some digests that the remote has, together with all that they depend on."""
        return HeldDigests(self).among(digests)


class HeldDigests(Container["Digest"]):
    """The digests that a remote has, looked up when they are asked for.

    What is pushed may depend on those that are ``in`` it, which are entries of packs.

    Args:
        index: What the remote has.
    """

    def __init__(self, index: RemoteIndex) -> None:
        self._index = index
        self._known: dict[Digest, bool] = {}
        self._entries: dict[Digest, bool] = {}

    def __contains__(self, digest: object) -> bool:
        """Return whether the remote has an entry for a digest, together with all that it depends on."""
        if not self._index.packs:
            return False
        name = cast("Digest", digest)
        if name not in self._entries:
            self._entries[name] = name in self._index.chosen({name})
        return self._entries[name]

    def among(self, digests: Iterable[Digest]) -> set[Digest]:
        """Return those of some digests that the remote has, alone or in bundles, with all that they depend on."""
        if not self._index.packs:
            return set()
        wanted = set(digests)
        if fresh := wanted.difference(self._known):
            stored = self._index.stored_as(fresh)
            found = self._index.chosen(set(stored.values()))
            self._known.update((digest, name in found) for digest, name in stored.items())
            self._entries.update((name, name in found) for name in stored.values())
        return {digest for digest in wanted if self._known[digest]}

    def divide(self, digests: set[Digest]) -> tuple[set[Digest], set[Digest]]:
        """Return those of some digests that the remote has, and those that it lacks."""
        held = self.among(digests)
        return held, digests - held if held else digests


def known_index(root: Path, url: str) -> RemoteIndex:
    """Return what is cached of a remote's index, without accessing the remote."""
    heads = Heads(root, url)
    return RemoteIndex(frozenset(heads.learn(heads.names()) - read_damaged(root, url)), heads)


def read_remote_index(store: Store, remote: OpenedRemote) -> RemoteIndex:
    """Read the index of a remote.

    Raises:
        RemoteError: It cannot be reached.
    """
    packs = _names(remote, "packs/", pack_of_key)
    indexed = _names(remote, "index/", pack_of_index_key)
    heads = Heads(store.root, remote.url, lambda name: _obtain(remote, name, listed=name in indexed))
    heads.forget(packs)
    fresh = sorted(heads.unknown(packs))
    unreadable = set()
    if fresh:
        with ThreadPoolExecutor(_READERS) as executor:
            for name, header in zip(fresh, ordered_map(executor, heads.header, fresh, 4 * _READERS), strict=True):
                if header is None:
                    unreadable.add(name)
                else:
                    heads.add(name, header)
    learn_damaged(store.root, remote.url, remote.plugin)
    readable = packs - unreadable
    damaged = read_damaged(store.root, remote.url) & readable
    return RemoteIndex(
        frozenset(readable - damaged), heads, frozenset(indexed), store.verdicts.bad_entries(), frozenset(damaged)
    )


def known_better(store: Store, index: RemoteIndex, wanted: AbstractSet[Digest]) -> RemoteIndex:
    """Verify the packs that both a store and a remote have, if that was not done yet.

    Args:
        store: The store. Its alternates are left alone, since they may be large.
        index: The index of the remote.
        wanted: Digests of interest.

    Returns:
        The index, with the bad entries that were found.
    """
    if store.verdicts.any_unknown():
        same = {(str(store.root), name) for name in index.packs}
        unknown = [
            (digest, location)
            for digest, location in flattened(store.locations(wanted))
            if location.verdict is Verdict.UNKNOWN and location.pack_id in same
        ]
        store.prove({base for _, location in unknown for base in location.bases} - {digest for digest, _ in unknown})
        store.judge(unknown)
    return replace(index, bad=store.verdicts.bad_entries())


def read_head(remote: OpenedRemote, name: str) -> FetchedHead:
    """Read the head of a pack out of the remote's pack.

    Raises:
        CorruptError: The file is not a pack.
        MissingError: The remote does not have it.
        RemoteError: The remote cannot be reached.
    """
    key = pack_key(name)
    data = retried(lambda: remote.plugin.get(key, 0, _GUESS))
    length = header_length(data)
    if length > len(data):
        data += retried(lambda: remote.plugin.get(key, len(data), length))
    return FetchedHead(data[:length], read_header(data))


def _obtain(remote: OpenedRemote, name: str, *, listed: bool) -> FetchedHead | None:
    """Return the head of a pack; None if the pack is damaged, or was just removed."""
    if listed and (head := _index_entry(remote, name)) is not None:
        return head
    try:
        return read_head(remote, name)
    except (CorruptError, MissingError):
        return None


def _index_entry(remote: OpenedRemote, name: str) -> FetchedHead | None:
    with suppress(CorruptError, MissingError):
        data = retried(lambda: remote.plugin.get(index_key(name), 0, MAX_HEADER + PREFIX_BYTES))
        length = header_length(data)
        if length == len(data):
            return FetchedHead(data, read_header(data))
    return None


def _names(remote: OpenedRemote, prefix: str, name_of: Callable[[str], str | None]) -> set[str]:
    keys = retried(lambda: list(remote.plugin.list(prefix)))
    return {name for name in map(name_of, keys) if name is not None}
