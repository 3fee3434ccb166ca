"""The index: finds the packs that have a digest, and has the tables of verdicts and of cached manifests.

It is derived data: if it is deleted, it is rebuilt from the headers of the packs.
"""

from __future__ import annotations

import contextlib
import os
import sqlite3
import threading
import weakref
from typing import TYPE_CHECKING, Any

from git_theta_ext.errors import StoreError
from git_theta_ext.store.index_bundles import KnownBundles, add_bundles, any_gone, forget_gone
from git_theta_ext.store.index_damage import OtherVersionError, hint_of, is_damage, no_warning
from git_theta_ext.store.index_rows import grouped
from git_theta_ext.store.index_schema import BUSY_SECONDS, as_text, prepare, with_own_root
from git_theta_ext.store.locations import Location, Verdict
from git_theta_ext.util.system import open_file

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence
    from pathlib import Path

    from git_theta_ext.model.tensor import Digest
    from git_theta_ext.store.locations import Locations
    from git_theta_ext.store.packs.format import Entry
    from git_theta_ext.store.parts import BundlesOf

_LOCATIONS = "SELECT digest, root, name, entry, stored, bases, verdict FROM blobs JOIN packs ON pack = id"
_RECORDED_BEFORE = """ON CONFLICT (digest, pack) DO UPDATE SET
    entry = excluded.entry, stored = excluded.stored, bases = excluded.bases,
    verdict = CASE WHEN excluded.verdict THEN excluded.verdict WHEN verdict = 2 THEN 0 ELSE verdict END"""
"""A pack that is stored again may have been repaired, so bad entries become unknown."""

_BATCH = 500
_SHARE = 4
"""Digests that are at most one in so many of those that are known are looked up one by one."""


class Index:
    """A SQLite database in WAL mode, shared by all processes of a repository.

    Args:
        path: Path of the database. If it cannot be written, the index is in memory and rebuilt for each process. If it
            is damaged or has another version, it is replaced by an empty one.
        warn: Called with a message if the database was damaged.
        own: Root of the store that the database is in. It is recorded as empty, so that a repository which is moved or
            copied keeps its verdicts.

    Attributes:
        renewed: How often a damaged database was replaced by an empty one.
    """

    def __init__(self, path: Path, warn: Callable[[str], None] = no_warning, own: str = "") -> None:
        self.renewed = 0
        self._own = own
        self._path = path
        self._warn = warn
        self._lock = threading.RLock()
        self._known: Locations = {}
        self._known_at: tuple[int, int] | None = None
        self._bundles = KnownBundles(self.rows)
        self._db = self._open()

    def _open(self) -> sqlite3.Connection:
        try:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            try:
                return with_own_root(prepare(self._connect_file()), as_text(self._own))
            except OtherVersionError:
                self._discard()
            except sqlite3.Error as error:
                if not is_damage(error):
                    raise
                self._give_up()
            return prepare(self._connect_file())
        except (sqlite3.Error, OSError):  # read-only, no space, or locked for too long: do without the file
            return prepare(self._connect(":memory:"))

    def key(self, root: str) -> str | bytes:
        """Return how the tables name the root of a store."""
        return "" if root == self._own else as_text(root)

    def _root(self, key: str | bytes) -> str:
        if not key:
            return self._own
        return key if isinstance(key, str) else os.fsdecode(key)

    def _connect_file(self) -> sqlite3.Connection:
        # SQLite creates a file that only its owner may write, whatever the umask is.
        os.close(open_file(self._path, os.O_RDWR | os.O_CREAT))
        return self._connect(str(self._path))

    def _connect(self, path: str) -> sqlite3.Connection:
        db = sqlite3.connect(path, timeout=BUSY_SECONDS, isolation_level=None, check_same_thread=False)
        weakref.finalize(self, db.close)  # at the latest when the process exits: otherwise the log stays, and grows
        return db

    def _discard(self) -> None:
        for suffix in ("", "-wal", "-shm"):
            with contextlib.suppress(OSError):
                self._path.with_name(self._path.name + suffix).unlink()

    def _give_up(self) -> None:
        self._discard()
        self.renewed += 1
        self._warn(f"{self._path} was damaged and is rebuilt; no data is lost")

    def _renew(self) -> None:
        """Replace the damaged database by an empty one; the packs still have all of its data."""
        self._db.close()
        self._give_up()
        self._known_at = None
        self._bundles.clear()
        self._db = self._open()

    @contextlib.contextmanager
    def transaction(self) -> Iterator[sqlite3.Connection]:
        """Run a block in a transaction that holds the write lock.

        If the database is damaged, the records of the block are lost along with all others.

        Raises:
            StoreError: The database cannot be written.
        """
        with self._lock:
            try:
                self._db.execute("BEGIN IMMEDIATE")
                yield self._db
                self._db.execute("COMMIT")
            except BaseException as error:
                if isinstance(error, sqlite3.Error) and is_damage(error):
                    self._renew()
                    return
                if self._db.in_transaction:  # SQLite itself rolls back on a full disk
                    self._db.execute("ROLLBACK")
                if isinstance(error, sqlite3.Error):
                    raise StoreError(f"cannot write {self._path}: {error}", hint=hint_of(error)) from error
                raise

    def add_pack(self, root: str, name: str, entries: Sequence[Entry], *, loose: bool, verified: bool = False) -> None:
        """Record a pack and its entries, in their order.

        Args:
            root: Root of the store that has the pack.
            name: Name of the pack.
            entries: Entries of the pack.
            loose: Whether recoding may still make it smaller.
            verified: Whether its entries are known to match their digests. If false, earlier verdicts stay in force.
        """
        # In the order of the table: SQLite looks for the place of a row that does not follow the one before.
        rows = sorted(
            (bytes.fromhex(entry.digest), number, entry.stored, bytes.fromhex("".join(entry.bases)), verified)
            for number, entry in enumerate(entries)
        )
        with self._lock:
            self._unchanged()
            before = self._known_at
            with self.transaction() as db:
                alone = before is not None and db.execute("PRAGMA data_version").fetchone()[0] == before[0]
                self._insert(db, (self.key(root), name), rows, loose=loose, verified=verified)
                if add_bundles(db, [entry.bundle for entry in entries if entry.bundle is not None]):
                    self._bundles.clear()
            if before is not None and alone and self._known_at is before:
                self._add_known(root, name, entries, verified=verified)
                self._known_at = before[0], self._db.total_changes

    @staticmethod
    def _insert(
        db: sqlite3.Connection, key: tuple[str | bytes, str], rows: Sequence[Any], *, loose: bool, verified: bool
    ) -> None:
        db.execute("INSERT OR IGNORE INTO packs (root, name, loose) VALUES (?, ?, ?)", (*key, loose))
        (pack,) = db.execute("SELECT id FROM packs WHERE root = ? AND name = ?", key).fetchone()
        query = f"INSERT INTO blobs (pack, digest, entry, stored, bases, verdict) VALUES ({pack:d}, ?, ?, ?, ?, ?)"  # noqa: S608 - only a number
        db.executemany(f"{query} {_RECORDED_BEFORE}", rows)
        if not verified:
            query = "SELECT digest FROM bad_entries WHERE name = ?"
            db.execute(f"UPDATE blobs SET verdict = 2 WHERE pack = ? AND digest IN ({query})", (pack, key[1]))  # noqa: S608 - ours

    def _add_known(self, root: str, name: str, entries: Sequence[Entry], *, verified: bool) -> None:
        """Add the entries of a pack that was recorded to what was read before; what that says of others stays true."""
        for number, entry in enumerate(entries):
            others = self._known.pop(entry.digest, None)
            if others is not None and verified:  # otherwise the database knows the verdict
                location = Location(root, name, number, entry.stored, entry.bases, Verdict.SOUND)
                kept = [other for other in others if other.pack != name or other.root != root]
                self._known[entry.digest] = (*kept, location)

    def drop_pack(self, root: str, name: str) -> None:
        """Remove a pack, but remember that it was verified: the same bytes may come back from a remote."""
        key = self.key(root), name
        with self.transaction() as db:
            sound = "NOT EXISTS (SELECT 1 FROM blobs WHERE pack = id AND verdict <> 1)"
            query = f"INSERT OR IGNORE INTO sound_packs SELECT name FROM packs WHERE root = ? AND name = ? AND {sound}"  # noqa: S608 - ours
            db.execute(query, key)
            db.execute("DELETE FROM blobs WHERE pack IN (SELECT id FROM packs WHERE root = ? AND name = ?)", key)
            db.execute("DELETE FROM packs WHERE root = ? AND name = ?", key)

    def packs(self) -> set[tuple[str, str]]:
        """Return root and name of every recorded pack."""
        return {(self._root(root), name) for root, name in self.rows("SELECT root, name FROM packs")}

    def pack_names(self, root: str) -> list[str]:
        """Return the names of the packs of a store, in the order in which they were recorded."""
        return [name for (name,) in self.rows("SELECT name FROM packs WHERE root = ? ORDER BY id", (self.key(root),))]

    def locations(self, digests: Iterable[Digest]) -> Locations:
        """Return all locations of some digests, including bad ones. Digests without locations are left out.

        What was read is kept until the database changes, because the steps of a push ask for the same digests.
        """
        wanted = set(digests)
        with self._lock:
            known = self._unchanged()
            todo = sorted(wanted.difference(known))  # neighbours are on the same pages
            for start in range(0, len(todo), _BATCH):
                batch = todo[start : start + _BATCH]
                query = f"{_LOCATIONS} WHERE digest IN ({','.join('?' * len(batch))})"
                found = grouped(self.rows(query, list(map(bytes.fromhex, batch))), self._root)
                known |= found
                known |= {digest: () for digest in batch if digest not in found}
            if len(wanted) * _SHARE < len(known):
                return {digest: held for digest in wanted if (held := known[digest])}
            # In the order in which they are in memory, which takes a third of the time, here and in what follows.
            return {digest: held for digest, held in known.items() if held and digest in wanted}

    def _unchanged(self) -> Locations:
        """Return what was read since the last change of the database."""
        changes = (self.rows("PRAGMA data_version")[0][0], self._db.total_changes)
        if self._db.in_transaction:  # which may be rolled back
            return {}
        if changes != self._known_at:
            self._known, self._known_at = {}, changes
        return self._known

    def parts(self, digests: Iterable[Digest]) -> dict[Digest, list[tuple[Digest, int]]]:
        """Return the bundles that some tensors are in, wherever these are, and the position of each tensor in them."""
        with self._lock:
            return self._bundles.parts(set(digests))

    def bundles_of(self, digests: Iterable[Digest]) -> BundlesOf:
        """Return the bundles that each of some tensors is in, wherever these are."""
        with self._lock:
            return self._bundles.bundles_of(set(digests))

    def all_locations(self) -> Locations:
        """Return the locations of all digests, including bad ones."""
        return grouped(self.rows(_LOCATIONS), self._root)

    def loose(self, root: str) -> set[str]:
        """Return the names of packs that recoding may still make smaller."""
        return {name for (name,) in self.rows("SELECT name FROM packs WHERE loose AND root = ?", (self.key(root),))}

    def loose_bytes(self, root: str) -> int:
        """Return the stored bytes of packs that recoding may still make smaller."""
        query = "SELECT SUM(stored) FROM blobs JOIN packs ON pack = id WHERE loose AND root = ?"
        return sum(nbytes or 0 for (nbytes,) in self.rows(query, (self.key(root),)))

    def mark_recoded(self, root: str, names: Iterable[str]) -> None:
        """Record that recoding has processed some packs."""
        with self.transaction() as db:
            query = "UPDATE packs SET loose = 0 WHERE root = ? AND name = ?"
            db.executemany(query, ((self.key(root), name) for name in names))

    def compact(self) -> None:
        """Reclaim the space of removed records, unless another process uses the database or the disk is nearly full."""
        with self._lock, contextlib.suppress(sqlite3.OperationalError, StoreError):
            if any_gone(self.rows):
                with self.transaction() as db:
                    forget_gone(db)
                self._bundles.clear()
            try:
                self._db.execute("VACUUM")
            except sqlite3.Error as error:
                if not is_damage(error):
                    raise
                self._renew()

    def rows(self, query: str, values: Sequence[object] = ()) -> list[Any]:
        """Return all rows of a query."""
        with self._lock:
            try:
                return self._db.execute(query, values).fetchall()
            except sqlite3.Error as error:
                if not is_damage(error):
                    raise StoreError(f"cannot read {self._path}: {error}", hint=hint_of(error)) from error
                self._renew()
                return self._db.execute(query, values).fetchall()

    def close(self) -> None:
        """Close the database."""
        with self._lock:
            self._db.close()
