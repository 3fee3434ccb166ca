"""Packs of a remote, brought for a moment to see whether they hold what they say to hold."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from typing import TYPE_CHECKING

from git_theta_ext.errors import CorruptError, MissingError, StoreError
from git_theta_ext.model.remote_keys import pack_key
from git_theta_ext.store.deltas.chains import shallowest
from git_theta_ext.store.locations import in_pack, sound
from git_theta_ext.store.packs.reader import StoredBlob
from git_theta_ext.store.packs.writer import temporary
from git_theta_ext.store.verification.examine import is_damage, outcomes
from git_theta_ext.transfer.retry import retried
from git_theta_ext.util.files import reporting_os_errors, sha256_of
from git_theta_ext.util.threads import ordered_map

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from pathlib import Path

    from git_theta_ext.model.tensor import Digest
    from git_theta_ext.store.locations import Location, Locations
    from git_theta_ext.store.packs.format import PackHeader
    from git_theta_ext.store.store import Store
    from git_theta_ext.store.verification.examine import Held
    from git_theta_ext.transfer.remote_index import OpenedRemote

_DOWNLOADS = 8


class Downloads:
    """Downloads packs, decodes them, and removes them again. What it finds out is remembered by the packs' names.

    Args:
        store: Whose temporary folder they lie in, and whose tensors their entries may lean on.
        remote: The remote.
        good: Name and digest of entries that need not be decoded; taken over.

    Attributes:
        good: The same, and those that were seen to be what they say.
    """

    def __init__(self, store: Store, remote: OpenedRemote, good: set[tuple[str, Digest]]) -> None:
        self.good = good
        self._store = store
        self._remote = remote
        self._paths: dict[str, Path] = {}
        self._waiting: dict[str, list[Held]] = {}
        self._proven: list[Held] = []

    def decode(
        self, headers: Mapping[str, PackHeader], names: Sequence[str], advance: Callable[[int], None]
    ) -> list[str]:
        """Bring packs and decode what they hold, through what is here or among them.

        Args:
            headers: What packs of these names are to begin with.
            names: Of the packs.
            advance: Told the size of each pack that was checked.

        Returns:
            The names of the packs whose bytes are those that they are named after.

        Raises:
            RemoteError: The remote cannot be reached.
            StoreError: There is no room for the packs.
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
                    advance(headers[name].pack_bytes)
        finally:
            for name in list(self._paths):
                self._remove(name)
            self._waiting.clear()
            self._proven.clear()
        with suppress(StoreError):  # then it is found out again
            for name in whole:
                if all((name, entry.digest) in self.good for entry in headers[name].entries):
                    self._store.verdicts.note_sound(name)
        return whole

    def _bring(self, name: str, header: PackHeader) -> bool:
        """Download a pack, and tell whether its bytes are those that its name stands for."""
        path = self._paths[name] = temporary(self._store.root)
        try:
            with reporting_os_errors(path):
                retried(lambda: self._remote.plugin.fetch(pack_key(name), path, header.pack_bytes))
                return sha256_of(path) == name and self._store.reader.header(path) == header
        except (CorruptError, MissingError):
            return False

    def _examine(self) -> None:
        """Decode what can be by now, and remove the packs that nothing waits for any more."""
        progress = True
        while progress:
            trusted = shallowest(self._believed())
            waiting = [each for held in self._waiting.values() for each in held]
            ready = [each for each in waiting if all(base in trusted for base in each[1].bases)]
            threads = self._store.threads
            errors = list(
                outcomes(self._store.decoder, self._find, ready, trusted, threads=threads, advance=lambda _: None)
            )
            for each, error in zip(ready, errors, strict=True):
                self._waiting[each[1].pack].remove(each)
                self._note(each, error)
            progress = bool(ready)
        for name in [name for name, held in self._waiting.items() if not held]:
            if name in self._paths and not any(location.pack == name for _, location in self._proven):
                self._remove(name)

    def _believed(self) -> Locations:
        """Return verified locations of what packs lean on that wait or that others may lean on."""
        held = [*self._proven, *(each for held in self._waiting.values() for each in held)]
        found = sound(self._store.locations({base for _, location in held for base in location.bases}))
        for digest, location in self._proven:
            found[digest] = (*found.get(digest, ()), location)
        return found

    def _note(self, held: Held, error: BaseException | None) -> None:
        digest, location = held
        with suppress(StoreError):  # then it is found out again
            if error is None:
                self.good.add((location.pack, digest))
                if digest not in sound(self._store.locations({digest})):
                    self._proven.append(held)  # others may lean on it, and it is nowhere else
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
