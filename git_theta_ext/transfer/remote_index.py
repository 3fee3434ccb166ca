"""The packs of a remote: their heads are read once and cached.

A remote has ``index/<pack>`` for each pack, which is exactly the head of the pack. If that is missing or damaged, since
the remote is a working repository or an upload was interrupted, the head is read from the pack itself.
"""

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from typing import TYPE_CHECKING

from git_theta_ext.errors import CorruptError, MissingError
from git_theta_ext.model.remote_keys import index_key, pack_key, pack_of_index_key, pack_of_key
from git_theta_ext.records import dataclass, field, replace
from git_theta_ext.store.deltas.chains import shallowest
from git_theta_ext.store.locations import Verdict, flattened, in_packs
from git_theta_ext.store.packs.format import MAX_HEADER, PREFIX_BYTES, header_length, read_header
from git_theta_ext.store.packs.reader import read_head_of, read_pack_header
from git_theta_ext.store.temporary import temporary
from git_theta_ext.transfer.damaged import learn_damaged, read_damaged
from git_theta_ext.transfer.meter import Meter
from git_theta_ext.transfer.records import heads_directory
from git_theta_ext.transfer.retry import retried
from git_theta_ext.util.files import replace_content
from git_theta_ext.util.threads import ordered_map

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from collections.abc import Set as AbstractSet
    from pathlib import Path

    from git_theta_ext.interfaces import Remote
    from git_theta_ext.model.tensor import Digest
    from git_theta_ext.store.packs.format import PackHeader
    from git_theta_ext.store.store import Store

_READERS = 16
_YOUNG = 24 * 3600  # seconds
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
        headers: Headers by pack name, of all packs with a readable head but the damaged ones.
        indexed: Names of the packs that have an index entry.
        bad: Pack name and digest of entries that are known to be bad.
        damaged: Headers of packs that were found damaged on this remote.
    """

    headers: Mapping[str, PackHeader]
    indexed: frozenset[str] = frozenset()
    bad: AbstractSet[tuple[str, Digest]] = frozenset()
    damaged: Mapping[str, PackHeader] = field(default_factory=dict)

    def held(self) -> set[Digest]:
        """Return the digests that the remote has, together with all that they depend on."""
        return set(shallowest(in_packs(self.headers, bad=self.bad)))


def known_headers(root: Path, url: str) -> dict[str, PackHeader]:
    """Return the cached headers of a remote's packs but the damaged ones, without accessing the remote."""
    headers = {}
    damaged = read_damaged(root, url)
    with suppress(FileNotFoundError):
        for path in heads_directory(root, url).iterdir():
            with suppress(CorruptError, OSError):
                if path.name not in damaged:
                    headers[path.name] = read_pack_header(path)
    return headers


def read_remote_index(store: Store, remote: OpenedRemote) -> RemoteIndex:
    """Read the index of a remote.

    Raises:
        RemoteError: It cannot be reached.
    """
    packs = _names(remote, "packs/", pack_of_key)
    indexed = _names(remote, "index/", pack_of_index_key)
    directory = heads_directory(store.root, remote.url)
    _forget(directory, packs)
    names = sorted(packs)

    def read(name: str) -> PackHeader | None:
        return _header(store, remote, directory, name, listed=name in indexed)

    with ThreadPoolExecutor(_READERS) as executor:
        headers = list(ordered_map(executor, read, names, 4 * _READERS))
    learn_damaged(store.root, remote.url, remote.plugin)
    readable = {name: header for name, header in zip(names, headers, strict=True) if header is not None}
    damaged = {name: readable.pop(name) for name in read_damaged(store.root, remote.url) & set(readable)}
    return RemoteIndex(readable, frozenset(indexed), store.verdicts.bad_entries(), damaged)


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
        same = {(str(store.root), name) for name in index.headers}
        unknown = [
            (digest, location)
            for digest, location in flattened(store.locations(wanted))
            if location.verdict is Verdict.UNKNOWN and location.pack_id in same
        ]
        store.prove({base for _, location in unknown for base in location.bases} - {digest for digest, _ in unknown})
        store.judge(unknown)
    return replace(index, bad=store.verdicts.bad_entries())


def save_head(root: Path, url: str, name: str, head: bytes) -> Path:
    """Cache the head of a pack of a remote in a store, and return its path."""
    path = heads_directory(root, url) / name
    replace_content(path, head, temporary(root))
    return path


def read_head(remote: OpenedRemote, name: str) -> bytes:
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
    read_header(data)
    return data[:length]


def _header(store: Store, remote: OpenedRemote, directory: Path, name: str, *, listed: bool) -> PackHeader | None:
    with suppress(FileNotFoundError, CorruptError):
        header = read_pack_header(store.pack_path(name))
        if not (directory / name).exists():
            with suppress(OSError):
                save_head(store.root, remote.url, name, read_head_of(store.pack_path(name)))
        return header
    with suppress(FileNotFoundError, CorruptError):
        return read_pack_header(directory / name)
    head = _index_entry(remote, name) if listed else None
    if head is None:
        try:
            head = read_head(remote, name)
        except (CorruptError, MissingError):
            return None  # a pack that is damaged or was just removed counts as missing
    with suppress(OSError):
        save_head(store.root, remote.url, name, head)
    return read_header(head)


def _index_entry(remote: OpenedRemote, name: str) -> bytes | None:
    with suppress(CorruptError, MissingError):
        data = retried(lambda: remote.plugin.get(index_key(name), 0, MAX_HEADER + PREFIX_BYTES))
        length = header_length(data)
        if length == len(data):
            read_header(data)
            return data
    return None


def _names(remote: OpenedRemote, prefix: str, name_of: Callable[[str], str | None]) -> set[str]:
    keys = retried(lambda: list(remote.plugin.list(prefix)))
    return {name for name in map(name_of, keys) if name is not None}


def _forget(directory: Path, packs: set[str]) -> None:
    """Remove heads of packs that are gone, except recent ones, which another process may be uploading now."""
    with suppress(OSError):
        for path in directory.iterdir():
            if path.name not in packs and time.time() - path.stat().st_mtime > _YOUNG:
                path.unlink(missing_ok=True)
