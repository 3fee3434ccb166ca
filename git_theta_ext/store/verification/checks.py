"""Remember what ``git theta fsck`` found intact, in ``theta/checks.sqlite3``, so that the next one checks what changed.

The database is derived. It has digests of what was checked, and never leads to more than leaving something out that has
the same digest: if it is damaged, everything is checked again.

A pack is left out if its file is the one that was read, which its seal shows:

- Its path in the store, for packs of other stores the whole path, says which bytes it should have. A repository that is
  moved keeps these paths, and the files below it keep the rest.
- Device, inode and ctime say that it is the same file. No program can set the ctime, so a copy of a repository is
  read again, whatever made it: its inodes are others, or its ctimes those of the copy. The device tells the image of a
  whole disk, which has the same of both.
- Size, mtime and ctime say that nothing was written to the file since.

Nothing shows that the disk still returns the same bytes, so every pack is read again after a week.
"""

from __future__ import annotations

import os
import time
from typing import TYPE_CHECKING

from blake3 import blake3

from git_theta_ext.util.cache_database import CacheDatabase

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Collection, Iterable, Mapping
    from pathlib import Path

_VERSION = 2
_TABLES = (
    ("packs", "(path BLOB PRIMARY KEY, seal BLOB NOT NULL, read INTEGER NOT NULL) WITHOUT ROWID"),
    ("versions", "(key BLOB PRIMARY KEY, manifest INTEGER NOT NULL) WITHOUT ROWID"),
    ("notes", "(name TEXT PRIMARY KEY, value BLOB NOT NULL) WITHOUT ROWID"),
)
_BATCH = 500

READ_AGAIN_SECONDS = 7 * 24 * 3600
"""A pack is read again after a week: a disk may damage a file without changing its times."""

_RACY_SECONDS = 2
"""A file that changed this shortly before it was read may change again without getting another time."""


class Checks(CacheDatabase):
    """Remembers which packs were read, and which versions had all of their tensors in the packs that were here then.

    Args:
        folder: Directory of the store.
    """

    def __init__(self, folder: Path) -> None:
        super().__init__(folder / "checks.sqlite3", _VERSION, _TABLES)
        self._folder = folder
        self._usable = True

    def begin(self, paths: Iterable[Path | str]) -> PackReads:
        """Return the packs that were read, and forget all versions if one of these packs is gone.

        Args:
            paths: All packs that are here.
        """
        reads = PackReads(self._folder, paths)
        rows: list[tuple[bytes, bytes, int]] = []
        rows = self.read(lambda db: db.execute("SELECT path, seal, read FROM packs").fetchall(), rows)
        noted = {path: (seal, read) for path, seal, read in rows}
        # What a pack had may be nowhere else, so that versions which had all of their tensors may have lost some.
        lost = noted.keys() - reads.present if self._note("packs") == _digest_of(noted) else set(noted)
        if lost:
            self._usable = False

            def forget(db: sqlite3.Connection) -> None:
                db.executemany("DELETE FROM packs WHERE path = ?", [(path,) for path in lost])
                db.execute("DELETE FROM versions")
                db.execute("DELETE FROM notes")
                db.execute("INSERT INTO notes VALUES ('packs', ?)", (_digest_of(noted.keys() - lost),))

            self.write(forget)
        reads.noted = {path: row for path, row in noted.items() if path not in lost}
        return reads

    def finish(
        self, reads: PackReads, versions: Mapping[bytes, bool], state: tuple[str, int] | None, *, whole: bool
    ) -> None:
        """Remember a check.

        Args:
            reads: The packs that were here.
            versions: Keys of the versions with all of their tensors in these packs, and of other files, with whether
                each is a version.
            state: A digest of the repository in which these are all versions, and their number; None to forget it.
            whole: Whether the versions that were remembered before may be remembered any longer.
        """

        def insert(db: sqlite3.Connection) -> None:
            rows = reads.rows().items()
            db.executemany("INSERT OR REPLACE INTO packs VALUES (?, ?, ?)", [(path, *row) for path, row in rows])
            noted = [path for (path,) in db.execute("SELECT path FROM packs")]
            db.execute("INSERT OR REPLACE INTO notes VALUES ('packs', ?)", (_digest_of(noted),))
            if whole:
                db.executemany("INSERT OR REPLACE INTO versions VALUES (?, ?)", versions.items())
            else:
                db.execute("DELETE FROM versions")
            db.execute("DELETE FROM notes WHERE name = 'state'")
            if whole and state is not None:
                value = state[1].to_bytes(8, "big") + _state_digest(*state)
                db.execute("INSERT INTO notes VALUES ('state', ?)", (value,))

        self.write(insert)

    def known(self, keys: Collection[bytes]) -> dict[bytes, bool]:
        """Return those of some keys that are remembered, with whether each is a version."""

        def look_up(db: sqlite3.Connection) -> dict[bytes, bool]:
            found: dict[bytes, bool] = {}
            every = list(keys)
            for start in range(0, len(every), _BATCH):
                batch = every[start : start + _BATCH]
                marks = ",".join("?" * len(batch))
                query = f"SELECT key, manifest FROM versions WHERE key IN ({marks})"  # noqa: S608 - only question marks
                found.update((key, bool(manifest)) for key, manifest in db.execute(query, batch))
            return found

        return self.read(look_up, {}) if self._usable else {}

    def unread(self, paths: Iterable[Path | str]) -> int:
        """Return how many packs have not been read in the last week."""
        least = int(time.time()) - READ_AGAIN_SECONDS
        rows: list[tuple[bytes]] = []
        query = "SELECT path FROM packs WHERE read > ?"
        rows = self.read(lambda db: db.execute(query, (least,)).fetchall(), rows)
        return len(PackReads(self._folder, paths).present.difference(path for (path,) in rows))

    def count(self, state: str | None) -> int | None:
        """Return the number of versions if all were remembered in the same state of the repository; otherwise None."""
        value = self._note("state")
        if state is None or value is None or not self._usable:
            return None
        count = int.from_bytes(value[:8], "big")
        return count if value[8:] == _state_digest(state, count) else None

    def _note(self, name: str) -> bytes | None:
        query = "SELECT value FROM notes WHERE name = ?"
        row = self.read(lambda db: db.execute(query, (name,)).fetchone(), None)
        return None if row is None else bytes(row[0])


class PackReads:
    """The packs that are here, and when each was last read and had the SHA-256 of its name.

    Args:
        folder: Directory of the store.
        paths: Paths of the packs.

    Attributes:
        present: What the database names these packs.
        noted: By name, what ``rows`` returned after an earlier check.
        kept: Number of the packs that were not read again.
    """

    def __init__(self, folder: Path, paths: Iterable[Path | str]) -> None:
        self.noted: Mapping[bytes, tuple[bytes, int]] = {}
        self.kept = 0
        self._prefix = os.fsencode(folder) + os.fsencode(os.sep)
        self._now = time.time()
        self._fresh: dict[bytes, tuple[bytes, int]] = {}
        self.present = set(map(self._name, paths))

    def _name(self, path: Path | str) -> bytes:
        return os.fsencode(path).removeprefix(self._prefix)

    def unchanged(self, path: Path | str, stat: os.stat_result) -> bool:
        """Return whether a pack was read in the last week, and its file has the same stat data as then."""
        name = self._name(path)
        seal, read = self.noted.get(name, (b"", 0))
        same = seal == _seal(name, stat) and self._now - READ_AGAIN_SECONDS < read <= self._now
        self.kept += same
        return same

    def add(self, path: Path, stat: os.stat_result) -> None:
        """Note that a pack was read, and was intact.

        Args:
            path: Its path.
            stat: The stat data of its file before it was read.
        """
        name, now = self._name(path), path.stat()
        if _seal(name, now) == _seal(name, stat) and max(now.st_ctime, now.st_mtime) < self._now - _RACY_SECONDS:
            self._fresh[name] = _seal(name, stat), int(self._now)

    def same(self, paths: Iterable[Path | str]) -> bool:
        """Return whether some packs are those that were here at the beginning."""
        return set(map(self._name, paths)) == self.present

    def rows(self) -> dict[bytes, tuple[bytes, int]]:
        """Return what has to be noted anew: digests of path and stat data, and times, by path."""
        new = self.present - self.noted.keys()
        return {**dict.fromkeys(new, (b"", 0)), **self._fresh}


def version_key(path: str, oid: str, code: str) -> bytes:
    """Return the key of a file in history.

    Args:
        path: Its path.
        oid: The id of its blob.
        code: The version of the program that checks it.
    """
    return blake3(os.fsencode(f"{code}\0{path}\0{oid}")).digest(16)


def _seal(name: bytes, stat: os.stat_result) -> bytes:
    """Return a digest of what shows that a file is the one that was read; see above."""
    file = f"{stat.st_dev} {stat.st_ino} {stat.st_size} {stat.st_mtime_ns} {stat.st_ctime_ns}"
    return blake3(name + b"\0" + file.encode()).digest(16)


def _digest_of(paths: Iterable[bytes]) -> bytes:
    return blake3(b"\0".join(sorted(paths))).digest(16)


def _state_digest(state: str, count: int) -> bytes:
    return blake3(f"{state} {count}".encode()).digest(16)
