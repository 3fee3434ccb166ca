"""The Git LFS server of a git remote, with an index in a ref of the git remote.

A pack is an LFS object, because both are named by the SHA-256 of their bytes. One that is larger than hosts allow is
divided into several objects, and a file of the index lists them. Hosts remove LFS objects that no pointer in the
repository names. Therefore the index holds the canonical pointer of each object, and a file with the index entries of
each push.
"""

from __future__ import annotations

import random
from contextlib import contextmanager, suppress
from functools import partial
from threading import Lock
from typing import TYPE_CHECKING, Any

from git_theta_ext.errors import ConfigError, CorruptError, MissingError
from git_theta_ext.interfaces import RemoteType, redacted
from git_theta_ext.protocol.lfs.batch import MAX_OBJECTS
from git_theta_ext.protocol.lfs.pointer import Pointer, parse_pointer

from ._git_settings import GitSettings
from ._http import Http
from ._index_format import object_path, pack_of_path, pack_path
from ._index_ref import IndexRef
from ._lfs_downloads import Downloads
from ._lfs_endpoints import Endpoints
from ._lfs_locks import LfsLocks
from ._lfs_objects import LfsObjects
from ._lfs_packs import LfsPacks
from ._lfs_server import LfsServer
from ._lfs_uploads import Uploads
from ._pack_index import PackIndex, pack_name, parse_key
from ._part_size import LFS_OBJECT, part_size_of
from ._parts import Part, format_parts, pack_of_parts_path, parse_parts, parts_path, total
from ._timeout import TIMEOUT, git_limits, timeout_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
    from pathlib import Path

    from git_theta_ext.interfaces import GitCommands, RemoteContext

    from ._parts import Parts

_MAX_FILE = 1 << 16
"""Maximum size in bytes of a file of the index that stands for a pack: a list of ``MAX_PARTS`` parts has fewer."""


def open_remote(url: str, options: Mapping[str, Any], context: RemoteContext) -> Lfs:
    """Open the LFS server of a git repository.

    Args:
        url: The address of the git repository, which has the index. If nothing else is configured, it is that of the
            git remote. Git's settings name the LFS server as they do for git-lfs, or it follows from the address.
        options: ``partsize``, the maximum size of an object in bytes; ``timeout``, the time that a server may be
            silent, in seconds.
        context: The git remote and the local repository.

    Raises:
        ConfigError: An option is not valid, or there is no local repository.
    """
    if unknown := set(options) - {"timeout", "partsize"}:
        raise ConfigError(
            f"{redacted(url)}: unknown setting {min(unknown)}",
            hint=f"git config --unset theta.remote.NAME.{min(unknown)}",
        )
    if context.git is None:
        raise ConfigError(f"{redacted(url)}: the index of an LFS server is in a git repository, and there is none")
    timeout = timeout_of(redacted(url), options)
    settings, http, server = _connected(context.git, context.name, url, timeout)
    index = IndexRef(context.git, url, git_limits(timeout))
    packs = LfsPacks(Uploads(server, http), Downloads(server, http), part_size_of(redacted(url), options, LFS_OBJECT))
    return Lfs(url, packs, index, LfsLocks(server, settings), context.report)


def open_objects(context: RemoteContext) -> LfsObjects:
    """Open the LFS server of a git remote for the objects of git-lfs.

    Raises:
        ConfigError: There is no local repository.
    """
    if context.git is None:
        raise ConfigError(f"{redacted(context.address)}: objects of Git LFS are fetched into a git repository")
    _, http, server = _connected(context.git, context.name, context.address, TIMEOUT)
    return LfsObjects(redacted(context.address), server, Downloads(server, http, "object"))


def _connected(git: GitCommands, name: str, address: str, timeout: float) -> tuple[GitSettings, Http, LfsServer]:
    settings = GitSettings.read(git)
    http = Http(settings, timeout, settings.text(f"remote.{name}.proxy"))
    return settings, http, LfsServer(Endpoints(git, settings, name, address), http)


REMOTE = RemoteType((), open_remote, open_objects)


class Lfs:
    """See ``Remote``, ``LockingRemote`` and ``MarkingRemote``.

    The index is fetched when it is first needed, and if another push changed it before ``publish``. A pack of the index
    that the server turns out to lack is not listed any more, so that a push uploads it again.

    Args:
        url: The address of the git repository, for messages.
        packs: Uploads and downloads.
        index: The index.
        locks: The locks of files.
        report: See ``RemoteContext``.
    """

    def __init__(
        self,
        url: str,
        packs: LfsPacks,
        index: IndexRef,
        locks: LfsLocks,
        report: Callable[[str, int], None],
    ) -> None:
        self._url = redacted(url)
        self._packs = packs
        self._report = report
        self._index = PackIndex(self._url, index, _pack_of)
        self._listed: dict[str, Parts] | None = None
        self._sent: dict[str, Parts] = {}
        self._asked = False
        self._locks = locks
        self._lock = Lock()

    def locks(self) -> LfsLocks:
        """Return the locks of files; see ``LockingRemote``."""
        return self._locks

    @property
    def ranged(self) -> bool:
        """Whether the server sends ranges of objects, as far as is known."""
        return self._packs.ranged

    def list(self, prefix: str) -> Iterator[str]:
        """Yield the keys that start with ``prefix``."""
        yield from self._index.keys(prefix, self._lost())

    def get(self, key: str, start: int = 0, end: int | None = None) -> bytes:
        """Return the bytes of an object from ``start`` up to ``end``; fewer if it is shorter."""
        folder, name = parse_key(key)
        if folder == "index":
            data = self._index.entry(name)
            return data[start : len(data) if end is None else end]
        parts = self._parts(name)
        stop = total(parts) if end is None else min(end, total(parts))
        with self._noting_loss(name):
            return self._packs.read(parts, start, stop)

    def fetch(self, key: str, path: Path, nbytes: int) -> None:
        """Download a pack to a local file."""
        name = pack_name(key)
        parts = self._parts(name)
        if total(parts) != nbytes:
            raise CorruptError(f"{self._url}: pack {name} has {total(parts)} bytes instead of {nbytes}")
        with self._noting_loss(name):
            self._packs.fetch(parts, path, partial(self._report, key))

    def put(self, key: str, path: Path) -> bool:
        """Upload a pack unless the server has it."""
        name = pack_name(key)
        parts, sent = self._packs.upload(name, path, partial(self._report, key))
        with self._lock:
            self._sent[name] = parts
        self._index.lost.remove([name])
        return sent

    def publish(self, entries: Mapping[str, Path]) -> None:
        """Add packs and their index entries to the index, in one commit."""
        paths = {parse_key(key)[1]: path for key, path in entries.items()}
        known, names = self._known(), self._index.names()
        with self._lock:
            sent = {name: self._sent[name] for name in paths if name in self._sent}
        wrong = frozenset(name for name, parts in sent.items() if name in names and known.get(name) != parts)
        self._index.add({name: _files(name, parts, name in wrong) for name, parts in sent.items()}, paths, wrong)
        with self._lock:
            self._listed = None

    def keep(self, keys: Iterable[str]) -> set[str]:
        """Return the keys that exist.

        An index says nothing about what the server lost. The server is asked about some of the packs, and about all of
        them if it lacks one.
        """
        wanted = {key: parse_key(key)[1] for key in keys}
        with self._lock:
            sent = set(self._sent)
        listed = (self._index.names() | sent) - self._lost()
        names = sorted(set(wanted.values()) & listed)
        random.shuffle(names)
        lost = self._absent(names[:MAX_OBJECTS])
        if lost:
            lost |= self._absent(names[MAX_OBJECTS:])
        self._index.lost.add(lost)
        return {key for key, name in wanted.items() if name in listed and name not in lost}

    def marked(self) -> set[str]:
        """Return the keys of packs that somebody found damaged; see ``MarkingRemote``."""
        return self._index.marked()

    def mark(self, keys: Iterable[str]) -> None:
        """Remember that packs are damaged."""
        self._index.mark(keys)

    def unmark(self, keys: Iterable[str]) -> None:
        """Remove the marks of packs that turned out to be sound."""
        self._index.unmark(keys)

    def _lost(self) -> frozenset[str]:
        """Return the packs that the server turned out to lack, without those that somebody has sent again."""
        lost, names = self._index.lost, self._index.names()
        if not self._asked:
            self._asked = True
            again = sorted(lost.names() & names)
            lost.remove(set(again) - self._absent(again))
        return lost.names()

    @contextmanager
    def _noting_loss(self, name: str) -> Iterator[None]:
        try:
            yield
        except MissingError:
            self._index.lost.add([name])
            raise

    def _absent(self, names: Sequence[str]) -> set[str]:
        """Return the names of those packs that the server says to lack, or a part of them."""
        packs: dict[str, Parts] = {}
        for name in names:
            with suppress(MissingError):
                packs[name] = self._parts(name)
        absent = self._packs.absent(packs.values())
        there = {name for name, parts in packs.items() if absent.isdisjoint(part.oid for part in parts)}
        return set(names) - there

    def _parts(self, name: str) -> Parts:
        """Return the objects that have the bytes of a pack, one after another.

        Raises:
            MissingError: The index does not have the pack.
        """
        with self._lock:
            parts = self._sent.get(name)
        parts = parts or self._known().get(name)
        if parts is None:
            raise MissingError(f"the index of {self._url} has no pack {name}")
        return parts

    def _known(self) -> dict[str, Parts]:
        """Return the objects of the packs in the index, by name."""
        with self._lock:
            if self._listed is None:
                read = {name: _read_file(name, data) for name, data in self._index.pointers(_MAX_FILE).items()}
                self._listed = {name: parts for name, parts in read.items() if parts is not None}
            return self._listed


def _pack_of(path: str) -> str | None:
    """Return the name of the pack that a file of the index stands for; None for other paths."""
    return pack_of_path(path) or pack_of_parts_path(path)


def _read_file(name: str, data: bytes) -> Parts | None:
    """Return the objects of a pack, as a file of the index has them; None if it is neither a pointer nor a list."""
    if (pointer := parse_pointer(data)) is not None:
        return (Part(pointer.oid, pointer.size),) if pointer.oid == name else None
    with suppress(CorruptError):
        parts = parse_parts(data)
        return parts if all(len(part.oid) == len(name) for part in parts) else None
    return None


def _files(name: str, parts: Parts, listed: bool) -> dict[str, bytes]:  # noqa: FBT001 - one caller
    """Return the files that the index gets for a pack: its pointer, or a list of parts and their pointers.

    Args:
        name: The name of the pack.
        parts: The objects that have its bytes.
        listed: Whether the index may have another list of parts, which a pointer would not replace.
    """
    if len(parts) == 1 and not listed:
        return {pack_path(name): Pointer(name, parts[0].size).text()}
    pointers = {object_path(part.oid): Pointer(part.oid, part.size).text() for part in parts}
    return {parts_path(name): format_parts(parts), **pointers}
