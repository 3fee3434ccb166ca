"""Download packs of a remote temporarily, to verify their entries."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from typing import TYPE_CHECKING

from git_theta_ext.errors import CorruptError, MissingError, StoreError
from git_theta_ext.model.remote_keys import pack_key
from git_theta_ext.store.deltas.chains import shallowest
from git_theta_ext.store.locations import in_pack, sound
from git_theta_ext.store.packs.reader import StoredBlob
from git_theta_ext.store.temporary import temporary
from git_theta_ext.store.verification.examine import is_damage, outcomes
from git_theta_ext.transfer.retry import retried
from git_theta_ext.util.files import reporting_os_errors, sha256_of
from git_theta_ext.util.threads import ordered_map

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from pathlib import Path

    from git_theta_ext.model.tensor import Digest
    from git_theta_ext.store.locations import Copy, Location, Locations
    from git_theta_ext.store.packs.format import PackHeader
    from git_theta_ext.store.store import Store
    from git_theta_ext.transfer.remote_index import OpenedRemote

_DOWNLOADS = 8


class Downloads:
    """Downloads packs, decodes them, and removes them. The verdicts are recorded by the names of the packs.

    Args:
        store: The store with the temporary directory and the records. Entries may depend on its tensors.
        remote: The remote.
        good: Pack name and digest of entries that need not be decoded. This set is changed.

    Attributes:
        good: The same, and the entries that were decoded successfully.
        damaged: Names of packs whose bytes do not match their names.
    """

    def __init__(self, store: Store, remote: OpenedRemote, good: set[tuple[str, Digest]]) -> None:
        self.good = good
        self.damaged: set[str] = set()
        self._store = store
        self._remote = remote
        self._paths: dict[str, Path] = {}
        self._waiting: dict[str, list[Copy]] = {}
        self._proven: list[Copy] = []

    def decode(
        self, headers: Mapping[str, PackHeader], names: Sequence[str], checked: Callable[[str], None]
    ) -> list[str]:
        """Download packs and decode their entries, given the tensors of the store and of these packs.

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
        try:
            with ThreadPoolExecutor(_DOWNLOADS) as executor:
                brought = ordered_map(executor, lambda name: self._bring(name, headers[name]), names, _DOWNLOADS)
                for name, intact in zip(names, brought, strict=True):
                    if intact:
                        whole.append(name)
                        self._waiting[name] = [
                            (digest, location)
                            for digest, location in in_pack(self._remote.url, name, headers[name].entries)
                            if (name, digest) not in self.good
                        ]
                        self._examine()
                    checked(name)
        finally:
            for name in list(self._paths):
                self._remove(name)
            self._waiting.clear()
            self._proven.clear()
        with suppress(StoreError):  # then it is decoded again next time
            for name in whole:
                if all((name, entry.digest) in self.good for entry in headers[name].entries):
                    self._store.verdicts.note_sound(name)
        return whole

    def _bring(self, name: str, header: PackHeader) -> bool:
        """Download a pack, and return whether its bytes match its name and header."""
        path = self._paths[name] = temporary(self._store.root)
        try:
            with reporting_os_errors(path):
                retried(lambda: self._remote.plugin.fetch(pack_key(name), path, header.pack_bytes))
                if sha256_of(path) == name:
                    return self._store.reader.header(path) == header
        except MissingError:
            return False
        except CorruptError:
            pass
        self.damaged.add(name)
        return False

    def _examine(self) -> None:
        """Decode all entries whose bases are verified, and remove packs that are no longer needed."""
        progress = True
        while progress:
            trusted = shallowest(self._believed())
            waiting = [copy for held in self._waiting.values() for copy in held]
            ready = [copy for copy in waiting if all(base in trusted for base in copy[1].bases)]
            threads = self._store.threads
            errors = list(
                outcomes(self._store.decoder, self._find, ready, trusted, threads=threads, advance=lambda _: None)
            )
            for copy, error in zip(ready, errors, strict=True):
                self._waiting[copy[1].pack].remove(copy)
                self._note(copy, error)
            progress = bool(ready)
        for name in [name for name, held in self._waiting.items() if not held]:
            if name in self._paths and not any(location.pack == name for _, location in self._proven):
                self._remove(name)

    def _believed(self) -> Locations:
        """Return verified locations of the bases of all packs that are kept."""
        held = [*self._proven, *(copy for held in self._waiting.values() for copy in held)]
        locations = sound(self._store.locations({base for _, location in held for base in location.bases}))
        for digest, location in self._proven:
            locations[digest] = (*locations.get(digest, ()), location)
        return locations

    def _note(self, copy: Copy, error: BaseException | None) -> None:
        digest, location = copy
        with suppress(StoreError):  # then it is decoded again next time
            if error is None:
                self.good.add((location.pack, digest))
                if digest not in sound(self._store.locations({digest})):
                    self._proven.append(copy)  # other entries may depend on it, and it has no other location
            elif is_damage(error):
                self._store.verdicts.note_bad(location.pack, digest)

    def _find(self, digest: Digest, location: Location) -> StoredBlob:
        if location.root != self._remote.url:
            return self._store.blob_at(digest, location)
        path = self._paths[location.pack]
        return StoredBlob(path, self._store.reader.header(path).entries[location.entry])

    def _remove(self, name: str) -> None:
        path = self._paths.pop(name)
        self._store.reader.forget(path)
        path.unlink(missing_ok=True)
