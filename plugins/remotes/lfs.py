"""The Git LFS server of a git remote, with an index in a ref of the git remote.

A pack is an LFS object, because both are named by the SHA-256 of their bytes. Hosts remove LFS objects that no pointer
in the repository names. Therefore the index holds the canonical pointer of each pack, and a file with the index entries
of each push.
"""

from __future__ import annotations

import random
from contextlib import contextmanager
from functools import partial
from threading import Lock
from typing import TYPE_CHECKING, Any

from git_theta_ext.errors import ConfigError, CorruptError, MissingError
from git_theta_ext.interfaces import RemoteType, redacted
from git_theta_ext.protocol.lfs.batch import MAX_OBJECTS
from git_theta_ext.protocol.lfs.pointer import MAX_POINTER, Pointer, parse_pointer

from ._git_settings import GitSettings
from ._http import Http
from ._index_format import pack_of_path, pack_path
from ._index_ref import IndexRef
from ._lfs_endpoints import Endpoints
from ._lfs_locks import LfsLocks
from ._lfs_objects import LfsObjects
from ._lfs_server import LfsServer
from ._lfs_transfers import Transfers
from ._pack_index import PackIndex, pack_name, parse_key
from ._timeout import TIMEOUT, git_limits, timeout_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
    from pathlib import Path

    from git_theta_ext.interfaces import GitCommands, RemoteContext


def open_remote(url: str, options: Mapping[str, Any], context: RemoteContext) -> Lfs:
    """Open the LFS server of a git repository.

    Args:
        url: The address of the git repository, which has the index. If nothing else is configured, it is that of the
            git remote. Git's settings name the LFS server as they do for git-lfs, or it follows from the address.
        options: ``timeout``, the time that a server may be silent, in seconds.
        context: The git remote and the local repository.

    Raises:
        ConfigError: An option is not valid, or there is no local repository.
    """
    if unknown := set(options) - {"timeout"}:
        raise ConfigError(
            f"{redacted(url)}: unknown setting {min(unknown)}",
            hint=f"git config --unset theta.remote.NAME.{min(unknown)}",
        )
    if context.git is None:
        raise ConfigError(f"{redacted(url)}: the index of an LFS server is in a git repository, and there is none")
    timeout = timeout_of(redacted(url), options)
    settings, http, server = _connected(context.git, context.name, url, timeout)
    index = IndexRef(context.git, url, git_limits(timeout))
    return Lfs(url, Transfers(server, http), index, LfsLocks(server, settings), context.report)


def open_objects(context: RemoteContext) -> LfsObjects:
    """Open the LFS server of a git remote for the objects of git-lfs.

    Raises:
        ConfigError: There is no local repository.
    """
    if context.git is None:
        raise ConfigError(f"{redacted(context.address)}: objects of Git LFS are fetched into a git repository")
    _, http, server = _connected(context.git, context.name, context.address, TIMEOUT)
    return LfsObjects(redacted(context.address), server, Transfers(server, http, "object"))


def _connected(git: GitCommands, name: str, address: str, timeout: float) -> tuple[GitSettings, Http, LfsServer]:
    settings = GitSettings.read(git)
    http = Http(settings, timeout, settings.text(f"remote.{name}.proxy"))
    return settings, http, LfsServer(Endpoints(git, settings, name, address), http)


REMOTE = RemoteType((), open_remote, open_objects)


class Lfs:
    """See ``Remote`` and ``LockingRemote``.

    The index is fetched when it is first needed, and if another push changed it before ``publish``. A pack of the index
    that the server turns out to lack is not listed any more, so that a push uploads it again.

    Args:
        url: The address of the git repository, for messages.
        transfers: Uploads and downloads.
        index: The index.
        locks: The locks of files.
        report: See ``RemoteContext``.
    """

    def __init__(
        self,
        url: str,
        transfers: Transfers,
        index: IndexRef,
        locks: LfsLocks,
        report: Callable[[str, int], None],
    ) -> None:
        self._url = redacted(url)
        self._transfers = transfers
        self._report = report
        self._index = PackIndex(self._url, index, pack_path, pack_of_path)
        self._pointers: dict[str, Pointer] = {}
        self._locks = locks
        self._lock = Lock()

    def locks(self) -> LfsLocks:
        """Return the locks of files; see ``LockingRemote``."""
        return self._locks

    @property
    def ranged(self) -> bool:
        """Whether the server sends ranges of objects, as far as is known."""
        return self._transfers.ranged

    def list(self, prefix: str) -> Iterator[str]:
        """Yield the keys that start with ``prefix``."""
        yield from self._index.keys(prefix, self._index.lost.names())

    def get(self, key: str, start: int = 0, end: int | None = None) -> bytes:
        """Return the bytes of an object from ``start`` up to ``end``; fewer if it is shorter."""
        folder, name = parse_key(key)
        if folder == "index":
            data = self._index.entry(name)
            return data[start : len(data) if end is None else end]
        pointer = self._pointer(name)
        stop = pointer.size if end is None else min(end, pointer.size)
        with self._noting_loss(name):
            return self._transfers.read(pointer, start, stop)

    def fetch(self, key: str, path: Path, nbytes: int) -> None:
        """Download a pack to a local file."""
        pointer = self._pointer(pack_name(key))
        if pointer.size != nbytes:
            raise CorruptError(f"{self._url}: pack {pointer.oid} has {pointer.size} bytes instead of {nbytes}")
        with self._noting_loss(pointer.oid):
            self._transfers.fetch(pointer, path, partial(self._report, key))

    def put(self, key: str, path: Path) -> bool:
        """Upload a pack unless the server has it."""
        pointer = Pointer(pack_name(key), path.stat().st_size)
        sent = self._transfers.upload(pointer, path, partial(self._report, key))
        with self._lock:
            self._pointers[pointer.oid] = pointer
        self._index.lost.remove([pointer.oid])
        return sent

    def publish(self, entries: Mapping[str, Path]) -> None:
        """Add the pointers of packs and their index entries to the index, in one commit."""
        paths = {parse_key(key)[1]: path for key, path in entries.items()}
        with self._lock:
            pointers = {name: self._pointers[name].text() for name in paths if name in self._pointers}
        self._index.add(pointers, paths)

    def keep(self, keys: Iterable[str]) -> set[str]:
        """Return the keys that exist.

        An index says nothing about what the server lost. The server is asked about some of the packs, and about all of
        them if it lacks one.
        """
        wanted = {key: parse_key(key)[1] for key in keys}
        with self._lock:
            listed = (self._index.names() | set(self._pointers)) - self._index.lost.names()
        names = sorted(set(wanted.values()) & listed)
        random.shuffle(names)
        lost = self._absent(names[:MAX_OBJECTS])
        if lost:
            for start in range(MAX_OBJECTS, len(names), MAX_OBJECTS):
                lost |= self._absent(names[start : start + MAX_OBJECTS])
        self._index.lost.add(lost)
        return {key for key, name in wanted.items() if name in listed and name not in lost}

    @contextmanager
    def _noting_loss(self, name: str) -> Iterator[None]:
        try:
            yield
        except MissingError:
            self._index.lost.add([name])
            raise

    def _absent(self, names: Sequence[str]) -> set[str]:
        """Return the names of those packs that the server says to lack."""
        if not names:
            return set()
        return self._transfers.absent([self._pointer(name) for name in names])

    def _pointer(self, name: str) -> Pointer:
        """Return the pointer of a pack.

        Raises:
            MissingError: The index does not have it.
        """
        with self._lock:
            if name not in self._pointers and name in self._index.names():
                parsed = {other: parse_pointer(data) for other, data in self._index.pointers(MAX_POINTER).items()}
                self._pointers.update({other: one for other, one in parsed.items() if one and one.oid == other})
            if name not in self._pointers:
                raise MissingError(f"the index of {self._url} has no pack {name}")
            return self._pointers[name]
