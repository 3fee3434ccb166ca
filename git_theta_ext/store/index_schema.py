"""The tables of the index, and what makes them."""

from __future__ import annotations

import os
import sqlite3
import time

from git_theta_ext.store.index_bundles import SCHEMA as BUNDLES
from git_theta_ext.store.index_bundles import renew_bundles
from git_theta_ext.store.index_damage import OtherVersionError

_VERSION = 5
_WITHOUT_BUNDLES = 3
"""The version to which only the tables of bundles are added."""
_ROWS_OF_BUNDLES = 4
"""The version of which only the tables of bundles are replaced."""
_SCHEMA = f"""
CREATE TABLE packs (
    id INTEGER PRIMARY KEY, root TEXT NOT NULL, name TEXT NOT NULL, loose INTEGER NOT NULL, UNIQUE (root, name)
);
CREATE TABLE blobs (
    digest BLOB NOT NULL, pack INTEGER NOT NULL, entry INTEGER NOT NULL, stored INTEGER NOT NULL, bases BLOB NOT NULL,
    verdict INTEGER NOT NULL, PRIMARY KEY (digest, pack)
) WITHOUT ROWID;
CREATE INDEX blobs_by_pack ON blobs (pack);
CREATE INDEX not_sound ON blobs (verdict) WHERE verdict <> 1;
CREATE TABLE sound_packs (name TEXT PRIMARY KEY) WITHOUT ROWID;
CREATE TABLE bad_entries (name TEXT NOT NULL, digest BLOB NOT NULL, PRIMARY KEY (name, digest)) WITHOUT ROWID;
CREATE TABLE manifests (id BLOB PRIMARY KEY, content BLOB NOT NULL) WITHOUT ROWID;
CREATE TABLE stats (path TEXT PRIMARY KEY, stat TEXT NOT NULL, manifest BLOB NOT NULL) WITHOUT ROWID;
{BUNDLES}
"""

BUSY_SECONDS = 30
"""How long to wait for another process that writes."""

_RETRY_SECONDS = 0.005

_CACHE_KIB = 1 << 15
"""Limit of the pages in memory, of which a small index takes few. The first bytes of digests are in no order, so each
bundle touches most pages of a table: if they do not fit, SQLite writes and reads them over and over."""


def prepare(db: sqlite3.Connection) -> sqlite3.Connection:
    """Give a database the tables of the index, unless it has them, and return it; if that fails, it is closed.

    Raises:
        OtherVersionError: It has the tables of another version.
        sqlite3.Error: It is damaged, cannot be written, or was locked for too long.
    """
    try:
        _use_wal(db)
        db.execute("PRAGMA synchronous = NORMAL")
        db.execute(f"PRAGMA cache_size = -{_CACHE_KIB}")
        if _version(db) != _VERSION:
            _create(db)
    except BaseException:
        db.close()
        raise
    return db


def with_own_root(db: sqlite3.Connection, own: str | bytes) -> sqlite3.Connection:
    """Record as empty the root of the store that the database is in; earlier versions recorded its path.

    Args:
        db: The database.
        own: The path of the store; empty if the database belongs to none.

    Returns:
        The database.
    """
    if own and db.execute("SELECT EXISTS (SELECT 1 FROM packs WHERE root = ?)", (own,)).fetchone()[0]:
        db.execute("BEGIN IMMEDIATE")
        db.execute("UPDATE OR IGNORE packs SET root = '' WHERE root = ?", (own,))
        db.execute("DELETE FROM blobs WHERE pack IN (SELECT id FROM packs WHERE root = ?)", (own,))
        db.execute("DELETE FROM packs WHERE root = ?", (own,))  # what a process of each version recorded
        db.execute("COMMIT")
    return db


def as_text(path: str) -> str | bytes:
    """Return a path as text, or as bytes if it is not valid UTF-8, which SQLite needs for text."""
    try:
        path.encode()
    except UnicodeEncodeError:
        return os.fsencode(path)
    return path


def _use_wal(db: sqlite3.Connection) -> None:
    """Switch to WAL mode. SQLite itself does not wait here for another process that opens the same new database."""
    end = time.monotonic() + BUSY_SECONDS
    while not _uses_wal(db, locked_is_error=time.monotonic() > end):
        time.sleep(_RETRY_SECONDS)


def _uses_wal(db: sqlite3.Connection, *, locked_is_error: bool) -> bool:
    try:
        db.execute("PRAGMA journal_mode = WAL")
    except sqlite3.OperationalError as error:
        if locked_is_error or "locked" not in str(error):
            raise
        return False
    return True


def _create(db: sqlite3.Connection) -> None:
    db.execute("BEGIN IMMEDIATE")
    version = _version(db)  # another process may have created the tables in the meantime
    if version not in {0, _WITHOUT_BUNDLES, _ROWS_OF_BUNDLES, _VERSION}:
        raise OtherVersionError
    if version == _ROWS_OF_BUNDLES:
        renew_bundles(db)
    elif version != _VERSION:
        schema = BUNDLES if version else _SCHEMA
        for statement in filter(str.strip, schema.split(";")):
            db.execute(statement)
    db.execute(f"PRAGMA user_version = {_VERSION}")
    db.execute("COMMIT")


def _version(db: sqlite3.Connection) -> int:
    return int(db.execute("PRAGMA user_version").fetchone()[0])
