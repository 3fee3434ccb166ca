"""Which packs there are, here and in the stores that this one borrows from, and what they hold."""

from __future__ import annotations

import os
from contextlib import suppress
from typing import TYPE_CHECKING

from git_theta_ext.errors import CorruptError, MissingError
from git_theta_ext.store.deltas.chains import closure, shallowest, sound_first
from git_theta_ext.store.index import Index
from git_theta_ext.store.index_damage import no_warning
from git_theta_ext.store.locations import Verdict, filtered, flattened, only, sound
from git_theta_ext.store.locks import exclusive_lock, shared_lock
from git_theta_ext.store.packs.reader import PackReader, StoredBlob, read_pack_header
from git_theta_ext.store.packs.writer import pack_path, place_pack
from git_theta_ext.store.verdicts import Verdicts
from git_theta_ext.util.files import reporting_os_errors, sha256_of, sync_directories, sync_file

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence
    from collections.abc import Set as AbstractSet
    from pathlib import Path

    from git_theta_ext.model.tensor import Digest
    from git_theta_ext.store.deltas.decode import Blobs
    from git_theta_ext.store.locations import Location, Locations


_LOOKS = 3
"""How often it is looked for packs that somebody moves about at the same time."""


class Inventory:
    """The packs of a repository and of those it borrows from.

    Args:
        root: ``$GIT_COMMON_DIR/theta``; made when something is first stored.
        alternates: Roots of other stores that are read, never written.
        warn: Told what the user should know: damage that was mended, locks that there are not.
    """

    def __init__(self, root: Path, alternates: Sequence[Path] = (), warn: Callable[[str], None] = no_warning) -> None:
        self.root = root
        self.warn = warn
        self.index = Index(root / "index.sqlite3", warn)
        self.verdicts = Verdicts(self.index)
        self.reader = PackReader()
        self._roots = {str(path): path for path in (root, *alternates)}
        self._refreshed = -1

    def pack_path(self, name: str) -> Path:
        """Return where this store keeps a pack, whether or not it is there."""
        return pack_path(self.root, name)

    def touch_sound(self, digests: AbstractSet[Digest]) -> tuple[Locations, dict[Digest, Location]]:
        """Touch the packs that verified tensors are decoded from, so that no garbage collection takes them now.

        Returns:
            What ``locations`` returns, and the locations that some digests and what these lean on are decoded from.
        """
        with shared_lock(self.root):
            for left in reversed(range(_LOOKS)):
                found = self.locations(digests)
                chosen = shallowest(sound(found))
                try:
                    for root, name in {location.pack_id for location in chosen.values()}:
                        _touch(self._path(root, name))
                except FileNotFoundError:  # went this very moment, by other hands than ours
                    if not left:
                        raise
                    self.refresh()
                else:
                    break
        return found, chosen

    def locations(self, digests: Iterable[Digest]) -> Locations:
        """Return what holds some digests, and all that these lean on, as far as it is not known to be bad.

        Digests that nothing holds are left out.
        """
        wanted = set(digests)
        # Else what a tensor leaned on a moment ago may be gone by now, and what it leans on instead not be seen.
        with shared_lock(self.root):
            found = closure(wanted, self._look_up)
            # An index that was found damaged meanwhile begins anew.
            if self._refreshed != self.index.renewed and not wanted <= set(shallowest(found)):
                self._refreshed = self.index.renewed
                self.refresh()
                found = closure(wanted, self._look_up)
        return found

    def blobs(self, digests: Iterable[Digest]) -> Blobs:
        """Return the blobs that some digests and all of their bases are decoded from with the least work.

        Verified blobs come before unverified ones.

        Raises:
            MissingError: One cannot be decoded from what is here, or only from what is known to be bad.
            CorruptError: A pack is not what the index says.
        """
        wanted = set(digests)
        chosen = sound_first(self.locations(wanted))
        if absent := wanted - set(chosen):
            raise self._absent(absent, len(wanted))
        return {digest: self.blob_at(digest, location) for digest, location in chosen.items()}

    def _absent(self, absent: AbstractSet[Digest], wanted: int) -> MissingError:
        bad = only(self.index.locations(absent), Verdict.BAD)
        if not bad:
            return MissingError(
                f"{len(absent)} of {wanted} tensors are not in the store, including {min(absent)}",
                hint="git theta checkout fetches what a remote has; git theta fsck says which files need them",
            )
        digest, (location, *_) = min(bad.items())
        return MissingError(
            f"{len(absent)} of {wanted} tensors are not in the store: "
            f"the copy of {digest} in pack {location.pack} is damaged",
            hint="git theta fsck --full --repair",
        )

    def path_of(self, name: str) -> Path:
        """Return where a pack is, here or in an alternate.

        Raises:
            MissingError: It is in none of them.
        """
        if (path := self._pack_anywhere(name)) is not None:
            return path
        raise MissingError(f"pack {name} is not in the store", hint="git theta fsck")

    def has_pack(self, name: str) -> bool:
        """Tell whether a pack is here or in an alternate."""
        return self._pack_anywhere(name) is not None

    def has_intact(self, name: str) -> bool:
        """Tell whether a pack is in this store whose file was not found to be damaged."""
        return self.pack_path(name).exists() and name not in self.verdicts.damaged(str(self.root))

    def adopt(self, name: str, path: Path) -> None:
        """Take over a file that is said to be a pack of this name; durable on return, and not decoded yet.

        Raises:
            CorruptError: Its bytes do not have that name, or are no pack. The file is left where it is.
        """
        if (actual := sha256_of(path)) != name:
            raise CorruptError(f"the file of pack {name} has the SHA-256 {actual}")
        header = read_pack_header(path)
        if header.pack_bytes != path.stat().st_size:
            raise CorruptError(f"the size of pack {name} differs from the size in its header")
        with reporting_os_errors(path):
            sync_file(path)
            os.utime(path)  # linked to a remote's file it may be old, and must not look like garbage
            sync_directories(place_pack(self.root, path, name))
        self.reader.forget(self.pack_path(name))
        known = self.verdicts.sound_pack(name)
        self.index.add_pack(str(self.root), name, header.entries, loose=False, verified=known)

    def drop(self, names: Iterable[str], older_than: float | None = None) -> list[str]:
        """Remove packs of this store and forget them, in the order given.

        What leans on a pack must go before it, so that a kill in between leaves nothing that cannot be decoded.

        Args:
            names: Of the packs.
            older_than: Keep those that were written or touched at this time or later; in seconds. None drops all.

        Returns:
            The names of those that are gone.
        """
        gone = []
        for name in names:
            path = self.pack_path(name)
            # Nobody finds a pack and touches it between our look at its time and its end.
            with exclusive_lock(self.root), reporting_os_errors(path), suppress(FileNotFoundError):
                if older_than is not None and path.stat().st_mtime >= older_than:
                    continue
                path.unlink()
            self.index.drop_pack(str(self.root), name)
            gone.append(name)
        return gone

    def pack_files(self) -> Iterator[tuple[Path, Path]]:
        """Yield the store's root and the path of every pack, here and in the alternates."""
        for root in self._roots.values():
            with suppress(FileNotFoundError):
                for folder in sorted((root / "packs").iterdir()):
                    yield from ((root, path) for path in sorted(folder.iterdir()) if path.is_file())

    def refresh(self) -> None:
        """Make the index agree with the packs on disk: another process, a copy or a restored backup changed them."""
        known = self.index.packs()
        present = {(str(root), path.name): path for root, path in self.pack_files()}
        for root, name in known - set(present):
            self.index.drop_pack(root, name)
        for (root, name), path in present.items():
            if (root, name) not in known:
                with suppress(CorruptError, FileNotFoundError):  # fsck names it
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
        packs = {location.pack_id for _, location in flattened(locations)}
        gone = {(root, name) for root, name in packs if root in self._roots and not self._path(root, name).exists()}
        if gone:
            self.refresh()
            locations = self.index.locations(digests)
        return filtered(locations, lambda _, location: location.root in self._roots and location.pack_id not in gone)

    def blob_at(self, digest: Digest, location: Location) -> StoredBlob:
        """Return the blob at a location.

        Raises:
            CorruptError: The pack is not what the index says.
            MissingError: The pack is gone.
        """
        path = self._path(location.root, location.pack)
        entries = self.reader.header(path).entries
        if location.entry >= len(entries) or entries[location.entry].digest != digest:
            raise CorruptError(f"pack {path.name} does not hold {digest}", hint="git theta fsck --full --repair")
        if entries[location.entry].bases != location.bases:
            raise CorruptError(
                f"pack {path.name}: {digest} has other bases than the index lists",
                hint="git theta fsck --full --repair",
            )
        return StoredBlob(path, entries[location.entry])


def _touch(path: Path) -> None:
    try:
        os.utime(path)
    except FileNotFoundError:
        raise
    except OSError:  # an alternate of somebody else's, or on a medium that nobody writes to
        pass
