"""The packs and index entries in the index of a git remote, read once."""

from __future__ import annotations

import re
from contextlib import suppress
from hashlib import sha256
from threading import Lock
from typing import TYPE_CHECKING

from git_theta_ext.errors import CorruptError, MissingError, UsageError
from git_theta_ext.interfaces import check_key, check_prefix

from ._index_format import MAX_HEADS, is_heads_path, join_heads, mark_path, pack_of_mark_path, split_heads

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping
    from collections.abc import Set as AbstractSet
    from pathlib import Path

    from ._index_ref import IndexRef

_MARK = b"damaged\n"
_KEY = re.compile(r"packs/([0-9a-f]{2})/(\1[0-9a-f]{62})|index/([0-9a-f]{64})")


def parse_key(key: str) -> tuple[str, str]:
    """Return the folder of a key, ``packs`` or ``index``, and the name of its pack.

    Raises:
        UsageError: It is not a key of a pack or of an index entry.
    """
    match = _KEY.fullmatch(check_key(key))
    if match is None:
        raise UsageError(f"{key} is not the key of a pack or of its index entry")
    return ("packs", match[2]) if match[1] else ("index", match[3])


def pack_name(key: str) -> str:
    """Return the name of the pack under a key.

    Raises:
        UsageError: It is not the key of a pack.
    """
    folder, name = parse_key(key)
    if folder == "index":
        raise UsageError(f"{key} is not a pack")
    return name


class PackIndex:
    """The index of a git remote. It is fetched when it is first needed, and when another push changed it before ours.

    Args:
        url: The address of the git remote, for messages.
        ref: The ref that has the index.
        pack_of: Returns the name of the pack that the file at a path stands for; None for other paths.

    Attributes:
        lost: The packs that the remote turned out to lack.
    """

    def __init__(self, url: str, ref: IndexRef, pack_of: Callable[[str], str | None]) -> None:
        self.lost = ref.lost
        self._url = url
        self._ref = ref
        self._pack_of = pack_of
        self._files: dict[str, str] | None = None
        self._packs: dict[str, str] = {}
        self._heads: dict[str, bytes] | None = None
        self._lock = Lock()

    def names(self) -> AbstractSet[str]:
        """Return the names of the packs."""
        with self._lock:
            return self._read().keys()

    def keys(self, prefix: str, lost: AbstractSet[str]) -> Iterator[str]:
        """Yield the keys that start with a prefix, without those of lost packs."""
        check_prefix(prefix)
        names = sorted(self.names() - lost)
        for folder in ("packs", "index"):
            keys = (f"packs/{name[:2]}/{name}" if folder == "packs" else f"index/{name}" for name in names)
            yield from (key for key in keys if key.startswith(prefix))

    def pointers(self, largest: int) -> dict[str, bytes]:
        """Return the files that stand for packs, by name, except those that have more than ``largest`` bytes."""
        # All of them at once, because others will be needed as well, and each reading starts git.
        with self._lock:
            packs = self._read()
            blobs = dict(self._ref.read(packs.values(), largest))
        return {name: blobs[oid] for name, oid in packs.items() if oid in blobs}

    def entry(self, name: str) -> bytes:
        """Return the index entry of a pack.

        Raises:
            MissingError: There is none.
        """
        with self._lock:
            self._read()
            if self._heads is None:
                self._heads = {}
                oids = [oid for path, oid in sorted((self._files or {}).items()) if is_heads_path(path)]
                for _, data in self._ref.read(oids, MAX_HEADS):
                    with suppress(CorruptError):  # then the entries are read from the packs
                        self._heads.update(split_heads(data))
            if name not in self._heads:
                raise MissingError(f"pack {name} has no index entry in {self._url}")
            return self._heads[name]

    def add(
        self,
        packs: Mapping[str, Mapping[str, bytes]],
        entries: Mapping[str, Path],
        replaced: AbstractSet[str] = frozenset(),
    ) -> None:
        """Add packs with their index entries, in one commit. Packs that the index has stay as they are.

        Args:
            packs: The files that the index gets for each pack, by its name: content by path.
            entries: Files with the index entries, by the names of the packs.
            replaced: Names of packs whose files in the index are wrong.
        """
        with self._lock:
            known = self._read()
            new = [name for name in entries if name not in known or name in replaced]
            if not new:
                return
            heads = join_heads({name: entries[name].read_bytes() for name in new})
            files = {path: data for name in new for path, data in packs[name].items()}
            files[f"heads/{sha256(heads).hexdigest()}"] = heads
            wrong = {path for name in replaced for path in packs[name]}
            self._take(self._ref.add(files, f"Add {len(new)} packs of parameters", wrong))

    def marked(self) -> set[str]:
        """Return the keys of packs that somebody found damaged."""
        with self._lock:
            return {f"packs/{name[:2]}/{name}" for name in self._marked()}

    def mark(self, keys: Iterable[str]) -> None:
        """Note packs of the index that are damaged, for everybody, in one commit."""
        with self._lock:
            new = (set(map(pack_name, keys)) & self._read().keys()) - self._marked()
            if new:
                files = {mark_path(name): _MARK for name in new}
                self._take(self._ref.add(files, f"Note {len(new)} damaged packs of parameters"))

    def unmark(self, keys: Iterable[str]) -> None:
        """Remove what ``mark`` noted of packs, for everybody, in one commit."""
        with self._lock:
            if wrong := set(map(pack_name, keys)) & self._marked():
                subject = f"Remove the notes of {len(wrong)} packs that are not damaged"
                self._take(self._ref.remove(map(mark_path, wrong), subject))

    def _marked(self) -> set[str]:
        self._read()
        return {name for path in self._files or () if (name := pack_of_mark_path(path)) is not None}

    def _read(self) -> dict[str, str]:
        """Return the object id of the file that stands for each pack, by name. The caller holds the lock."""
        if self._files is None:
            self._take(self._ref.fetch())
        return self._packs

    def _take(self, files: dict[str, str]) -> None:
        self._files = files
        self._heads = None
        # Sorted, so that every clone prefers the same file if several stand for a pack.
        named = ((self._pack_of(path), oid) for path, oid in sorted(files.items()))
        self._packs = {name: oid for name, oid in named if name is not None}
