"""The packs of a store and of its alternates, and the locations of their tensors."""

from __future__ import annotations

import os
from contextlib import suppress
from operator import attrgetter
from pathlib import Path
from typing import TYPE_CHECKING

from git_theta_ext.errors import CorruptError, MissingError
from git_theta_ext.store.deltas.chains import closure, shallowest, sound_first
from git_theta_ext.store.index import Index
from git_theta_ext.store.index_damage import no_warning
from git_theta_ext.store.locations import Verdict, filtered, only, pack_ids, sound
from git_theta_ext.store.locks import exclusive_lock, shared_lock
from git_theta_ext.store.packs.finishing import pack_file, pack_path, place_pack
from git_theta_ext.store.packs.reader import PackReader, StoredBlob, read_pack_header
from git_theta_ext.store.part_blobs import find_blobs
from git_theta_ext.store.verdicts import Verdicts
from git_theta_ext.util.files import reporting_os_errors, sha256_of, sync_directories, sync_file

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence
    from collections.abc import Set as AbstractSet

    from git_theta_ext.model.tensor import Digest
    from git_theta_ext.store.deltas.decode import Blobs
    from git_theta_ext.store.locations import Location, Locations
    from git_theta_ext.store.packs.format import Entry


_ATTEMPTS = 3
"""Number of attempts if another process moves packs at the same time."""


class Inventory:
    """The packs of a store and of its alternates.

    Args:
        root: Root of the store, ``$GIT_COMMON_DIR/theta``. It is created when something is first stored.
        alternates: Roots of other stores, which are read and never written.
        warn: Called with warnings for the user, such as that damage was repaired or that locks are not available.
    """

    def __init__(self, root: Path, alternates: Sequence[Path] = (), warn: Callable[[str], None] = no_warning) -> None:
        self.root = root
        self.warn = warn
        self.index = Index(root / "index.sqlite3", warn, str(root))
        self.verdicts = Verdicts(self.index)
        self.reader = PackReader()
        self._roots = {str(path): path for path in (root, *alternates)}
        self._refreshed = -1

    @property
    def roots(self) -> list[Path]:
        """The roots of this store and of its alternates."""
        return list(self._roots.values())

    def pack_path(self, name: str) -> Path:
        """Return the path of a pack in this store, whether or not it exists."""
        return pack_path(self.root, name)

    def touch_sound(self, digests: AbstractSet[Digest]) -> tuple[Locations, dict[Digest, Location]]:
        """Touch the packs that verified tensors are decoded from, which protects them from garbage collection for now.

        Returns:
            All locations, as ``locations`` returns them, and for each digest the one that it is decoded from.
        """
        with shared_lock(self.root):
            for left in reversed(range(_ATTEMPTS)):
                locations = self.locations(digests)
                chosen = shallowest(sound(locations))
                try:
                    for root, name in {location.pack_id for location in chosen.values() if location.pack}:
                        _touch(pack_file(root, name))
                except FileNotFoundError:  # removed just now by another program
                    if not left:
                        raise
                    self.refresh()
                else:
                    break
        return locations, chosen

    def locations(self, digests: Iterable[Digest]) -> Locations:
        """Return the locations of some digests and of all that they depend on, without those known to be bad.

        Digests without locations are left out.
        """
        wanted = set(digests)
        # Without the lock a tensor could be recoded between two look-ups, and its old or its new bases be missed.
        with shared_lock(self.root):
            locations = closure(wanted, self._look_up)
            # An index that turns out to be damaged is replaced by an empty one.
            if self._refreshed != self.index.renewed and not wanted <= set(shallowest(locations)):
                self._refreshed = self.index.renewed
                self.refresh()
                locations = closure(wanted, self._look_up)
        return locations

    def blobs(self, digests: Iterable[Digest]) -> Blobs:
        """Return the blobs that some digests and all of their bases are decoded from with the least work.

        Verified blobs come before unverified ones.

        Raises:
            MissingError: A digest has no location that can be decoded, except bad ones.
            CorruptError: A pack disagrees with the index.
        """
        wanted = set(digests)
        with shared_lock(self.root):  # until the packs are open, so that none is removed before
            chosen = sound_first(self.locations(wanted))
            if absent := wanted - set(chosen):
                raise self._absent(absent, len(wanted))
            return find_blobs(chosen, chosen, self.finder())

    def _absent(self, absent: AbstractSet[Digest], wanted: int) -> MissingError:
        bundles = {bundle for several in self.index.parts(absent).values() for bundle, _ in several}
        bad = only(self.index.locations(absent | bundles), Verdict.BAD)
        if not bad:
            return MissingError(
                f"{len(absent)} of {wanted} tensors are not in the store, including {min(absent)}",
                hint="git theta checkout fetches what a remote has; git theta fsck lists the files that need them",
            )
        digest, (location, *_) = min(bad.items())
        return MissingError(
            f"{len(absent)} of {wanted} tensors are not in the store: "
            f"the copy of {digest} in pack {location.pack} is damaged",
            hint="git theta fsck --full --repair",
        )

    def path_of(self, name: str) -> Path:
        """Return the path of a pack, in this store or an alternate.

        Raises:
            MissingError: The pack is in none of them.
        """
        if (path := self._pack_anywhere(name)) is not None:
            return path
        raise MissingError(f"pack {name} is not in the store", hint="git theta fsck", pack=name)

    def has_pack(self, name: str) -> bool:
        """Return whether a pack is in this store or an alternate."""
        return self._pack_anywhere(name) is not None

    def has_intact(self, name: str) -> bool:
        """Return whether a pack is in this store and its file is not known to be damaged."""
        return self.pack_path(name).exists() and name not in self.verdicts.damaged(str(self.root))

    def adopt(self, name: str, path: Path) -> None:
        """Move a file into the store as the pack of this name. The pack is durable on return, and not verified.

        Raises:
            CorruptError: The file does not have that SHA-256, or is not a pack. It is left in its place.
        """
        if (actual := sha256_of(path)) != name:
            raise CorruptError(f"the file of pack {name} has the SHA-256 {actual}")
        header = read_pack_header(path)
        if header.pack_bytes != path.stat().st_size:
            raise CorruptError(f"the size of pack {name} differs from the size in its header")
        with reporting_os_errors(path):
            sync_file(path)
            os.utime(path)  # a link to the file of a remote may be old, and must not look like garbage
            sync_directories(place_pack(self.root, path, name))
        self.reader.forget(self.pack_path(name))
        verified = self.verdicts.sound_pack(name)
        self.index.add_pack(str(self.root), name, header.entries, loose=False, verified=verified)

    def drop(self, names: Iterable[str], older_than: float | None = None) -> list[str]:
        """Remove packs from this store and from the index, in the order given.

        A pack has to come after all packs that depend on it, so that every tensor can be decoded if the process is
        killed in between.

        Args:
            names: Names of the packs.
            older_than: Keep packs that were written or touched at this time, in seconds, or later. None removes all.

        Returns:
            The names of the packs that are gone.
        """
        gone = []
        for name in names:
            path = self.pack_path(name)
            # With the lock no process can find and touch the pack between this check and its removal.
            with exclusive_lock(self.root), reporting_os_errors(path), suppress(FileNotFoundError):
                if older_than is not None and path.stat().st_mtime >= older_than:
                    continue
                path.unlink()
            self.index.drop_pack(str(self.root), name)
            gone.append(name)
        return gone

    def pack_files(self) -> Iterator[tuple[Path, Path]]:
        """Yield root and path of every pack of this store and its alternates."""
        return ((root, Path(entry.path)) for root, entry in self.pack_entries())

    def pack_entries(self) -> Iterator[tuple[Path, os.DirEntry[str]]]:
        """Yield the same as the entries of directories, which takes a third of the time with many packs."""
        for root in self._roots.values():
            with suppress(FileNotFoundError):
                for directory in sorted((root / "packs").iterdir()):
                    with os.scandir(directory) as entries:
                        packs = sorted((entry for entry in entries if entry.is_file()), key=_name)
                    yield from ((root, entry) for entry in packs)

    def is_empty(self) -> bool:
        """Return whether neither this store nor an alternate has a pack."""
        return next(self.pack_files(), None) is None

    def refresh(self) -> None:
        """Make the index agree with the packs on disk, which another process or a restored backup may have changed."""
        recorded = self.index.packs()
        present = {(str(root), path.name): path for root, path in self.pack_files()}
        for root, name in recorded - set(present):
            self.index.drop_pack(root, name)
        for (root, name), path in present.items():
            if (root, name) not in recorded:
                with suppress(CorruptError, FileNotFoundError):  # fsck reports it
                    self.index.add_pack(root, name, read_pack_header(path).entries, loose=True)

    def close(self) -> None:
        """Close the index and all packs."""
        self.reader.close()
        self.index.close()

    def _pack_anywhere(self, name: str) -> Path | None:
        return next((path for root in self._roots.values() if (path := pack_path(root, name)).exists()), None)

    def _path(self, root: str, name: str) -> Path:
        return pack_path(self._roots[root], name)

    def _look_up(self, digests: set[Digest]) -> Locations:
        locations = self.index.locations(digests)
        packs = pack_ids(locations)
        gone = {pack for pack in packs if pack[0] in self._roots and not os.access(pack_file(*pack), os.F_OK)}
        if gone:
            self.refresh()
            locations = self.index.locations(digests)
        elif all(root in self._roots for root, _ in packs):
            return locations
        return filtered(locations, lambda _, location: location.root in self._roots and location.pack_id not in gone)

    def blob_at(self, digest: Digest, location: Location) -> StoredBlob:
        """Return the blob at a location.

        Raises:
            CorruptError: The pack disagrees with the index.
            MissingError: The pack is gone.
        """
        return _blob(*self._header_at(location), digest, location)

    def finder(self) -> Callable[[Digest, Location], StoredBlob]:
        """Return a function that does as ``blob_at``, and looks up each pack once."""
        known: dict[tuple[str, str], tuple[Path, tuple[Entry, ...]]] = {}

        def find(digest: Digest, location: Location) -> StoredBlob:
            pack = location.pack_id
            held = known.get(pack)
            if held is None:
                held = known[pack] = self._header_at(location)
            return _blob(*held, digest, location)

        return find

    def _header_at(self, location: Location) -> tuple[Path, tuple[Entry, ...]]:
        if not location.pack:
            raise MissingError("a tensor is in no pack, but in a bundle", hint="git theta fsck")
        path = self._path(location.root, location.pack)
        return path, self.reader.header(path).entries


_name = attrgetter("name")


def _blob(path: Path, entries: tuple[Entry, ...], digest: Digest, location: Location) -> StoredBlob:
    if location.entry >= len(entries) or entries[location.entry].digest != digest:
        raise CorruptError(f"pack {path.name} does not hold {digest}", hint="git theta fsck --full --repair")
    if entries[location.entry].bases != location.bases:
        raise CorruptError(
            f"pack {path.name}: {digest} has other bases than the index lists",
            hint="git theta fsck --full --repair",
        )
    return StoredBlob(path, entries[location.entry])


def _touch(path: str) -> None:
    try:
        os.utime(path)
    except FileNotFoundError:
        raise
    except OSError:  # an alternate of another user, or on a read-only medium
        pass
