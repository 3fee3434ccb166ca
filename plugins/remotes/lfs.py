"""The Git LFS server of a git remote, with an index in a ref of the git remote.

A pack is an LFS object, because both are named by the SHA-256 of their bytes. Hosts remove LFS objects that no pointer
in the repository names. Therefore the index holds the canonical pointer of each pack, and a file with the index entries
of each push.
"""

from __future__ import annotations

import random
import re
from contextlib import suppress
from hashlib import sha256
from threading import Lock
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from git_theta_ext.errors import ConfigError, CorruptError, MissingError, UsageError
from git_theta_ext.interfaces import RemoteType, check_key, check_prefix, redacted
from git_theta_ext.protocol.lfs.batch import MAX_OBJECTS
from git_theta_ext.protocol.lfs.endpoints import ssh_address
from git_theta_ext.protocol.lfs.pointer import MAX_POINTER, Pointer, parse_pointer

from ._git_settings import GitSettings
from ._http import Http
from ._index_format import MAX_HEADS, is_heads_path, join_heads, pack_of_path, pack_path, split_heads
from ._index_ref import IndexRef
from ._lfs_server import LfsServer
from ._lfs_transfers import Transfers
from ._timeout import timeout_of

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence
    from pathlib import Path

    from git_theta_ext.interfaces import RemoteContext

_KEY = re.compile(r"packs/([0-9a-f]{2})/(\1[0-9a-f]{62})|index/([0-9a-f]{64})")
# Hugging Face lists branches and tags only, and removes objects that no listed commit names.
_BRANCH_HOSTS = frozenset({"huggingface.co", "hf.co"})


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
    settings = GitSettings.read(context.git)
    http = Http(settings, timeout_of(redacted(url), options), settings.text(f"remote.{context.name}.proxy"))
    server = LfsServer(context.git, settings, http, context.name, url)
    return Lfs(url, server, Transfers(server, http), IndexRef(context.git, url, branch=_host(url) in _BRANCH_HOSTS))


REMOTE = RemoteType((), open_remote)


class Lfs:
    """See ``Remote``.

    The index is fetched when it is first needed, and if another push changed it before ``publish``. A pack of the index
    that the server turns out to lack is not listed any more, so that a push uploads it again.

    Args:
        url: The address of the git repository, for messages.
        server: The LFS server.
        transfers: Uploads and downloads.
        index: The index.
    """

    def __init__(self, url: str, server: LfsServer, transfers: Transfers, index: IndexRef) -> None:
        self._url = redacted(url)
        self._server = server
        self._transfers = transfers
        self._index = index
        self._files: dict[str, str] | None = None
        self._packs: dict[str, str] = {}
        self._heads: dict[str, bytes] | None = None
        self._pointers: dict[str, Pointer] = {}
        self._lost: set[str] = set()
        self._lock = Lock()

    def list(self, prefix: str) -> Iterator[str]:
        """Yield the keys that start with ``prefix``."""
        check_prefix(prefix)
        with self._lock:
            names = sorted(set(self._read()) - self._lost)
        for folder in ("packs", "index"):
            keys = (_key(folder, name) for name in names)
            yield from (key for key in keys if key.startswith(prefix))

    def get(self, key: str, start: int = 0, end: int | None = None) -> bytes:
        """Return the bytes of an object from ``start`` up to ``end``; fewer if it is shorter."""
        folder, name = _parse(key)
        if folder == "index":
            data = self._entry(name)
            return data[start : len(data) if end is None else end]
        pointer = self._pointer(name)
        stop = pointer.size if end is None else min(end, pointer.size)
        return self._transfers.read(pointer, start, stop)

    def fetch(self, key: str, path: Path, nbytes: int) -> None:
        """Download a pack to a local file."""
        folder, name = _parse(key)
        if folder == "index":
            raise UsageError(f"{key} is not a pack")
        pointer = self._pointer(name)
        if pointer.size != nbytes:
            raise CorruptError(f"{self._url}: pack {name} has {pointer.size} bytes instead of {nbytes}")
        self._transfers.fetch(pointer, path)

    def put(self, key: str, path: Path) -> bool:
        """Upload a pack unless the server has it."""
        folder, name = _parse(key)
        if folder == "index":
            raise UsageError(f"{key} is not a pack")
        pointer = Pointer(name, path.stat().st_size)
        sent = self._transfers.upload(pointer, path)
        with self._lock:
            self._pointers[name] = pointer
            self._lost.discard(name)
        return sent

    def publish(self, entries: Mapping[str, Path]) -> None:
        """Add the pointers of packs and their index entries to the index, in one commit."""
        names = {_parse(key)[1]: path for key, path in entries.items()}
        with self._lock:
            known = self._read()
            new = {name: path for name, path in names.items() if name not in known}
            if not new:
                return
            files = {pack_path(name): self._pointers[name].text() for name in new}
            heads = join_heads({name: path.read_bytes() for name, path in new.items()})
            files[_heads_path(heads)] = heads
            self._take(self._index.add(files, f"Add {len(new)} packs of parameters"))

    def keep(self, keys: Iterable[str]) -> set[str]:
        """Return the keys that exist.

        An index says nothing about what the server lost. The server is asked about some of the packs, and about all of
        them if it lacks one.
        """
        wanted = {check_key(key): _parse(key)[1] for key in keys}
        with self._lock:
            listed = (set(self._read()) | set(self._pointers)) - self._lost
        names = sorted(set(wanted.values()) & listed)
        random.shuffle(names)
        lost = self._absent(names[:MAX_OBJECTS])
        if lost:
            for start in range(MAX_OBJECTS, len(names), MAX_OBJECTS):
                lost |= self._absent(names[start : start + MAX_OBJECTS])
        with self._lock:
            self._lost |= lost
        return {key for key, name in wanted.items() if name in listed and name not in lost}

    def _absent(self, names: Sequence[str]) -> set[str]:
        """Return the names of those packs that the server says to lack."""
        if not names:
            return set()
        answers = self._server.batch("download", [self._pointer(name) for name in names])
        return {name for name, answer in answers.items() if answer.error is not None}

    def _read(self) -> dict[str, str]:
        """Return the object id of the pointer of each pack in the index, by name. The caller holds the lock."""
        if self._files is None:
            self._take(self._index.fetch())
        return self._packs

    def _take(self, files: dict[str, str]) -> None:
        self._files = files
        self._heads = None
        named = ((pack_of_path(path), oid) for path, oid in files.items())
        self._packs = {name: oid for name, oid in named if name is not None}

    def _pointer(self, name: str) -> Pointer:
        """Return the pointer of a pack.

        Raises:
            MissingError: The index does not have it.
        """
        with self._lock:
            if name not in self._pointers and name in self._read():
                # All of them at once, because others will be needed as well, and each reading starts git.
                blobs = {oid: parse_pointer(data) for oid, data in self._index.read(self._packs.values(), MAX_POINTER)}
                named = ((listed, blobs.get(oid)) for listed, oid in self._packs.items())
                self._pointers.update({listed: one for listed, one in named if one is not None and one.oid == listed})
            if name not in self._pointers:
                raise MissingError(f"the index of {self._url} has no pack {name}")
            return self._pointers[name]

    def _entry(self, name: str) -> bytes:
        """Return the index entry of a pack.

        Raises:
            MissingError: There is none.
        """
        with self._lock:
            self._read()
            if self._heads is None:
                self._heads = {}
                oids = [oid for path, oid in sorted((self._files or {}).items()) if is_heads_path(path)]
                for _, data in self._index.read(oids, MAX_HEADS):
                    with suppress(CorruptError):  # then the entries are read from the packs
                        self._heads.update(split_heads(data))
            if name not in self._heads:
                raise MissingError(f"pack {name} has no index entry in {self._url}")
            return self._heads[name]


def _key(folder: str, name: str) -> str:
    return f"packs/{name[:2]}/{name}" if folder == "packs" else f"index/{name}"


def _parse(key: str) -> tuple[str, str]:
    """Return the folder of a key, and the name of its pack.

    Raises:
        UsageError: It is not a key of a pack or of an index entry.
    """
    match = _KEY.fullmatch(check_key(key))
    if match is None:
        raise UsageError(f"{key} is not the key of a pack or of its index entry")
    return ("packs", match[2]) if match[1] else ("index", match[3])


def _heads_path(data: bytes) -> str:
    return f"heads/{sha256(data).hexdigest()}"


def _host(url: str) -> str:
    address = ssh_address(url)
    return address.host if address else urlsplit(url).hostname or ""
