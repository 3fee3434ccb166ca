"""The heads of a remote's packs, cached in the store, and an index of their entries.

A push looks up the digests that it is about, and does not read what the remote has of all history. The index is derived
from the heads: without it, all of them are read once. A pack with a given name never changes.
"""

from __future__ import annotations

import time
from contextlib import suppress
from typing import TYPE_CHECKING

from git_theta_ext.errors import CorruptError, StoreError
from git_theta_ext.records import dataclass
from git_theta_ext.store.index import Index
from git_theta_ext.store.locations import in_pack
from git_theta_ext.store.packs.finishing import pack_path
from git_theta_ext.store.packs.reader import read_head_of, read_pack_header
from git_theta_ext.store.parts import parts_in
from git_theta_ext.store.temporary import temporary
from git_theta_ext.transfer.records import heads_directory, record_path
from git_theta_ext.util.files import replace_content

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from collections.abc import Set as AbstractSet
    from pathlib import Path

    from git_theta_ext.model.tensor import Digest
    from git_theta_ext.store.locations import Locations
    from git_theta_ext.store.packs.format import PackHeader
    from git_theta_ext.store.parts import BundlesOf

_YOUNG = 24 * 3600  # seconds
_ROOT = ""
"""Where packs of remotes are, in their locations."""


@dataclass(frozen=True)
class FetchedHead:
    """The head of a pack, out of a remote.

    Attributes:
        data: Its bytes.
        header: What they say.
    """

    data: bytes
    header: PackHeader


def _no_head(_: str) -> FetchedHead | None:
    return None


class Heads:
    """The cached heads of a remote's packs.

    Args:
        root: Root of the store.
        url: URL of the remote.
        obtain: Returns the head of a pack by its name, from the remote; None if it has no such pack, or a damaged one.
    """

    def __init__(self, root: Path, url: str, obtain: Callable[[str], FetchedHead | None] = _no_head) -> None:
        self._directory = heads_directory(root, url)
        self._root = root
        self._url = url
        self._obtain = obtain
        self._index = Index(record_path(root, url, "sqlite3"))
        self._known = set(self._index.pack_names(_ROOT))
        self._unrecorded: Locations = {}
        self._unrecorded_parts: dict[Digest, list[tuple[Digest, int]]] = {}

    def names(self) -> set[str]:
        """Return the names of the packs whose heads are cached."""
        try:
            return {path.name for path in self._directory.iterdir()}
        except FileNotFoundError:
            return set()

    def unknown(self, names: AbstractSet[str]) -> set[str]:
        """Return those of some packs that the index does not have."""
        return set(names - self._known)

    def header(self, name: str) -> PackHeader | None:
        """Return the header of a pack; None if the remote has no such pack, or a damaged one.

        Raises:
            RemoteError: The remote cannot be reached.
        """
        with suppress(FileNotFoundError, CorruptError):
            header = read_pack_header(pack_path(self._root, name))
            if not (self._directory / name).exists():
                with suppress(OSError):
                    save_head(self._root, self._url, name, read_head_of(pack_path(self._root, name)))
            return header
        with suppress(FileNotFoundError, CorruptError):
            return read_pack_header(self._directory / name)
        head = self._obtain(name)
        if head is None:
            return None
        with suppress(OSError):
            save_head(self._root, self._url, name, head.data)
        return head.header

    def add(self, name: str, header: PackHeader) -> None:
        """Add a pack to the index; to this object alone if the disk is full."""
        try:
            self._index.add_pack(_ROOT, name, header.entries, loose=False)
        except StoreError:
            for digest, location in in_pack(_ROOT, name, header.entries):
                self._unrecorded[digest] = (*self._unrecorded.get(digest, ()), location)
            for digest, several in parts_in(header.entries).items():
                self._unrecorded_parts[digest] = [*self._unrecorded_parts.get(digest, ()), *several]
        self._known.add(name)

    def learn(self, names: AbstractSet[str]) -> set[str]:
        """Add packs to the index, and return the names of those that it has now: their heads could be read."""
        known = set(names & self._known)
        for name in sorted(names - known):
            with suppress(OSError):
                if (header := self.header(name)) is not None:
                    self.add(name, header)
                    known.add(name)
        return known

    def locations(self, digests: Iterable[Digest]) -> Locations:
        """Return the locations of some digests in the packs of the index.

        An index that turns out to be damaged is replaced by an empty one, to which the packs are added again.
        """
        wanted = set(digests)
        renewed = self._index.renewed
        locations = self._index.locations(wanted)
        if self._index.renewed != renewed:
            for name in self._known:
                if (header := self.header(name)) is not None:
                    self.add(name, header)
            locations = self._index.locations(wanted)
        for digest in wanted & self._unrecorded.keys():
            locations[digest] = (*locations.get(digest, ()), *self._unrecorded[digest])
        return locations

    def parts(self, digests: Iterable[Digest]) -> dict[Digest, list[tuple[Digest, int]]]:
        """Return the bundles that some tensors are in, and the position of each tensor in them."""
        wanted = set(digests)
        parts = self._index.parts(wanted)
        for digest in wanted & self._unrecorded_parts.keys():
            parts[digest] = [*parts.get(digest, ()), *self._unrecorded_parts[digest]]
        return parts

    def bundles_of(self, digests: Iterable[Digest]) -> BundlesOf:
        """Return the bundles that each of some tensors is in."""
        found = self._index.bundles_of(digests)
        if self._unrecorded_parts:
            others = {digest: self._unrecorded_parts.get(digest, ()) for digest in found}
            found = {digest: (*found[digest], *(bundle for bundle, _ in several)) for digest, several in others.items()}
        return found

    def forget(self, packs: AbstractSet[str]) -> None:
        """Remove what is cached of all other packs, except of recent ones, which another process may upload now."""
        with suppress(OSError, StoreError):
            for path in self._directory.iterdir():
                if path.name not in packs and time.time() - path.stat().st_mtime > _YOUNG:
                    path.unlink(missing_ok=True)
                    self._index.drop_pack(_ROOT, path.name)


def save_head(root: Path, url: str, name: str, head: bytes) -> Path:
    """Cache the head of a pack of a remote in a store, and return its path."""
    path = heads_directory(root, url) / name
    replace_content(path, head, temporary(root))
    return path
