"""The index: which pack holds a digest, and which manifest a file's stat stands for.

Derived: deleting it loses nothing, it is rebuilt from the packs' headers.
"""

from __future__ import annotations

import contextlib
import sqlite3
import threading
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from pathlib import Path

    from git_theta_ext.model.tensor import Digest

_VERSION = 1
_SCHEMA = f"""
CREATE TABLE packs (id INTEGER PRIMARY KEY, root TEXT NOT NULL, name TEXT NOT NULL, UNIQUE (root, name));
CREATE TABLE blobs (
    digest BLOB NOT NULL, pack INTEGER NOT NULL, entry INTEGER NOT NULL, PRIMARY KEY (digest, pack)
) WITHOUT ROWID;
CREATE INDEX blobs_by_pack ON blobs (pack);
CREATE TABLE manifests (id BLOB PRIMARY KEY, content BLOB NOT NULL) WITHOUT ROWID;
CREATE TABLE stats (path TEXT PRIMARY KEY, stat TEXT NOT NULL, manifest BLOB NOT NULL) WITHOUT ROWID;
PRAGMA user_version = {_VERSION};
"""
_BATCH = 500
_BUSY_SECONDS = 30


class Index:
    """A SQLite database in WAL mode, shared by all processes of a repository.

    Args:
        path: Of the database. Where it cannot be written the index lives in memory and is rebuilt for each process;
            where it is damaged or of another version it is made anew.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._lock = threading.RLock()
        self._db = self._open()

    def _open(self) -> sqlite3.Connection:
        try:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            try:
                return _prepare(self._connect(str(self._path)))
            except sqlite3.OperationalError:
                raise
            except sqlite3.DatabaseError:  # damaged, or of another version
                self._discard()
                return _prepare(self._connect(str(self._path)))
        except (sqlite3.Error, OSError):  # read-only, no space, or locked for too long: do without the file
            return _prepare(self._connect(":memory:"))

    def _connect(self, path: str) -> sqlite3.Connection:
        return sqlite3.connect(path, timeout=_BUSY_SECONDS, isolation_level=None, check_same_thread=False)

    def _discard(self) -> None:
        for suffix in ("", "-wal", "-shm"):
            with contextlib.suppress(OSError):
                self._path.with_name(self._path.name + suffix).unlink()

    @contextlib.contextmanager
    def transaction(self) -> Iterator[sqlite3.Connection]:
        """Hold the write lock for a block; all of it happens or nothing."""
        with self._lock:
            self._db.execute("BEGIN IMMEDIATE")
            try:
                yield self._db
            except BaseException:
                self._db.execute("ROLLBACK")
                raise
            self._db.execute("COMMIT")

    def add_pack(self, root: str, name: str, digests: Iterable[Digest]) -> None:
        """Record a pack and the digests of its entries, in their order."""
        with self.transaction() as db:
            db.execute("INSERT OR IGNORE INTO packs (root, name) VALUES (?, ?)", (root, name))
            (pack,) = db.execute("SELECT id FROM packs WHERE root = ? AND name = ?", (root, name)).fetchone()
            rows = [(bytes.fromhex(digest), pack, entry) for entry, digest in enumerate(digests)]
            db.executemany("INSERT OR REPLACE INTO blobs VALUES (?, ?, ?)", rows)

    def drop_pack(self, root: str, name: str) -> None:
        """Forget a pack."""
        with self.transaction() as db:
            db.execute(
                "DELETE FROM blobs WHERE pack IN (SELECT id FROM packs WHERE root = ? AND name = ?)", (root, name)
            )
            db.execute("DELETE FROM packs WHERE root = ? AND name = ?", (root, name))

    def packs(self) -> set[tuple[str, str]]:
        """Return root and name of every pack that is known."""
        with self._lock:
            return set(self._db.execute("SELECT root, name FROM packs"))

    def find(self, digests: Iterable[Digest]) -> dict[Digest, tuple[str, str, int]]:
        """Return root and name of a pack and the number of the entry for each digest that is known."""
        wanted = {bytes.fromhex(digest): digest for digest in digests}
        keys = list(wanted)
        found: dict[Digest, tuple[str, str, int]] = {}
        with self._lock:
            for start in range(0, len(keys), _BATCH):
                batch = keys[start : start + _BATCH]
                marks = ",".join("?" * len(batch))
                query = f"SELECT digest, root, name, entry FROM blobs JOIN packs ON pack = id WHERE digest IN ({marks})"  # noqa: S608 - only question marks
                for digest, root, name, entry in self._db.execute(query, batch):
                    found[wanted[digest]] = (root, name, entry)
        return found

    def manifest_of(self, path: str, stat: str) -> bytes | None:
        """Return the manifest recorded for a file of exactly this stat."""
        query = "SELECT content FROM stats JOIN manifests ON manifest = id WHERE path = ? AND stat = ?"
        with self._lock:
            row = self._db.execute(query, (path, stat)).fetchone()
        return None if row is None else bytes(row[0])

    def record_manifest(self, path: str, stat: str, identity: bytes, manifest: bytes) -> None:
        """Record the manifest of a file of this stat, and forget manifests that no file has any more."""
        with self.transaction() as db:
            db.execute("INSERT OR IGNORE INTO manifests VALUES (?, ?)", (identity, manifest))
            db.execute("INSERT OR REPLACE INTO stats VALUES (?, ?, ?)", (path, stat, identity))
            db.execute("DELETE FROM manifests WHERE id NOT IN (SELECT manifest FROM stats)")

    def close(self) -> None:
        """Close the database."""
        with self._lock:
            self._db.close()


def _prepare(db: sqlite3.Connection) -> sqlite3.Connection:
    try:
        db.execute("PRAGMA journal_mode = WAL")
        db.execute("PRAGMA synchronous = NORMAL")
        if _version(db) != _VERSION:
            _create(db)
    except BaseException:
        db.close()
        raise
    return db


def _create(db: sqlite3.Connection) -> None:
    db.execute("BEGIN IMMEDIATE")
    found = _version(db)  # another process may have been faster
    if found not in {0, _VERSION}:
        raise sqlite3.DatabaseError("an index of another version")
    if found == 0:
        for statement in filter(str.strip, _SCHEMA.split(";")):
            db.execute(statement)
    db.execute("COMMIT")


def _version(db: sqlite3.Connection) -> int:
    return int(db.execute("PRAGMA user_version").fetchone()[0])
