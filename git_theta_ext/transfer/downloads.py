"""Download packs of a remote temporarily, to verify their entries."""

from __future__ import annotations

from collections import defaultdict
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Protocol

from git_theta_ext.errors import CorruptError, MissingError
from git_theta_ext.model.remote_keys import pack_key
from git_theta_ext.store.deltas.chains import shallowest
from git_theta_ext.store.deltas.decode import Decoder
from git_theta_ext.store.locations import in_pack, sound
from git_theta_ext.store.packs.reader import PackReader, StoredBlob
from git_theta_ext.store.temporary import temporary
from git_theta_ext.store.verification.examine import is_damage, outcomes
from git_theta_ext.transfer.retry import retried
from git_theta_ext.util.files import reporting_os_errors, sha256_of
from git_theta_ext.util.threads import no_progress, ordered_map

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence
    from pathlib import Path

    from git_theta_ext.model.tensor import Digest
    from git_theta_ext.store.locations import Copy, Location, Locations
    from git_theta_ext.store.packs.format import PackHeader
    from git_theta_ext.store.store import Store
    from git_theta_ext.transfer.remote_index import OpenedRemote

_DOWNLOADS = 8

Named = tuple[str, "Digest"]
"""The name of a pack, and the digest of an entry of it."""


class Bases(Protocol):
    """Tensors that entries of downloaded packs may depend on, besides those of other downloaded packs."""

    def locations(self, digests: Iterable[Digest]) -> Locations:
        """Return verified locations of some of these tensors, and of all that they depend on."""

    def blob_at(self, digest: Digest, location: Location) -> StoredBlob:
        """Return the blob at one of these locations."""


class StoredBases:
    """The tensors of a store; see ``Bases``."""

    def __init__(self, store: Store) -> None:
        self._store = store

    def locations(self, digests: Iterable[Digest]) -> Locations:
        """Return verified locations in the store; see ``Bases``."""
        return sound(self._store.locations(digests))

    def blob_at(self, digest: Digest, location: Location) -> StoredBlob:
        """Return the blob at a location; see ``Bases``."""
        return self._store.blob_at(digest, location)


class Downloads:
    """Downloads packs, decodes them, and removes them.

    Args:
        root: A directory for temporary files.
        remote: The remote.
        bases: What entries may depend on.
        good: Pack name and digest of entries that need not be decoded. This set is changed.
        threads: Number of threads that decode and hash.

    Attributes:
        good: The same, and the entries that were decoded successfully.
        bad: Pack name and digest of the entries that are damaged.
        damaged: Names of packs whose bytes do not match their names.
    """

    def __init__(self, root: Path, remote: OpenedRemote, bases: Bases, good: set[Named], threads: int) -> None:
        self.good = good
        self.bad: set[Named] = set()
        self.damaged: set[str] = set()
        self._root = root
        self._remote = remote
        self._bases = bases
        self._threads = threads
        self._reader = PackReader()
        self._decoder = Decoder(self._reader)
        self._paths: dict[str, Path] = {}
        self._waiting: dict[str, list[Copy]] = {}
        self._proven: list[Copy] = []

    def decode(
        self, headers: Mapping[str, PackHeader], names: Sequence[str], checked: Callable[[str], None]
    ) -> list[str]:
        """Download packs and decode their entries, given the bases and these packs.

        Args:
            headers: The expected headers of packs, by name.
            names: Names of the packs to download.
            checked: Called with the name of each pack that was checked.

        Returns:
            The names of the packs whose bytes match their names.

        Raises:
            RemoteError: The remote cannot be reached.
            StoreError: The disk is full.
        """
        whole = []
        needed = self._needed({name: headers[name] for name in names})
        try:
            with ThreadPoolExecutor(_DOWNLOADS) as executor:
                brought = ordered_map(executor, lambda name: self._bring(name, headers[name]), names, _DOWNLOADS)
                for name, intact in zip(names, brought, strict=True):
                    if intact:
                        whole.append(name)
                        self._waiting[name] = []
                        for copy in in_pack(self._remote.url, name, headers[name].entries):
                            if (name, copy[0]) not in self.good:
                                self._waiting[name].append(copy)
                            else:
                                self._keep(copy, needed)
                        self._examine(needed)
                    checked(name)
        finally:
            for name in list(self._paths):
                self._remove(name)
            self._waiting.clear()
            self._proven.clear()
        return whole

    def _needed(self, headers: Mapping[str, PackHeader]) -> set[Digest]:
        """Return what has to be decoded for the entries of some packs that are not known to be good."""
        bases: dict[Digest, set[Digest]] = defaultdict(set)
        todo: set[Digest] = set()
        for name, header in headers.items():
            for entry in header.entries:
                bases[entry.digest].update(entry.bases)
                if (name, entry.digest) not in self.good:
                    todo.update(entry.bases)
        needed: set[Digest] = set()
        while todo:
            needed |= todo
            todo = {base for digest in todo for base in bases.get(digest, ())} - needed
        return needed

    def _bring(self, name: str, header: PackHeader) -> bool:
        """Download a pack, and return whether its bytes match its name and header."""
        path = self._paths[name] = temporary(self._root)
        try:
            with reporting_os_errors(path):
                retried(lambda: self._remote.plugin.fetch(pack_key(name), path, header.pack_bytes))
                if sha256_of(path) == name:
                    return self._reader.header(path) == header
        except MissingError:
            return False
        except CorruptError:
            pass
        self.damaged.add(name)
        return False

    def _examine(self, needed: set[Digest]) -> None:
        """Decode all entries whose bases are verified, and remove packs that are no longer needed."""
        progress = True
        while progress:
            trusted = shallowest(self._believed())
            waiting = [copy for held in self._waiting.values() for copy in held]
            ready = [copy for copy in waiting if all(base in trusted for base in copy[1].bases)]
            errors = list(
                outcomes(self._decoder, self._find, ready, trusted, threads=self._threads, advance=no_progress)
            )
            for copy, error in zip(ready, errors, strict=True):
                digest, location = copy
                self._waiting[location.pack].remove(copy)
                if error is None:
                    self.good.add((location.pack, digest))
                    self._keep(copy, needed)
                elif is_damage(error):
                    self.bad.add((location.pack, digest))
            progress = bool(ready)
        for name in [name for name, held in self._waiting.items() if not held]:
            if name in self._paths and not any(location.pack == name for _, location in self._proven):
                self._remove(name)

    def _keep(self, copy: Copy, needed: set[Digest]) -> None:
        """Note that others can be decoded from a verified entry, if they depend on it and it has no other location."""
        if copy[0] in needed and copy[0] not in self._bases.locations({copy[0]}):
            self._proven.append(copy)

    def _believed(self) -> Locations:
        """Return verified locations of the bases of all packs that are kept."""
        held = [*self._proven, *(copy for held in self._waiting.values() for copy in held)]
        locations = self._bases.locations({base for _, location in held for base in location.bases})
        for digest, location in self._proven:
            locations[digest] = (*locations.get(digest, ()), location)
        return locations

    def _find(self, digest: Digest, location: Location) -> StoredBlob:
        if location.root != self._remote.url:
            return self._bases.blob_at(digest, location)
        path = self._paths[location.pack]
        return StoredBlob(path, self._reader.header(path).entries[location.entry])

    def _remove(self, name: str) -> None:
        path = self._paths.pop(name)
        self._reader.forget(path)
        path.unlink(missing_ok=True)
