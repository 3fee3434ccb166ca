"""Remember distances by the digests of both tensors, in ``theta/distances.sqlite3``.

The database is derived. What is damaged, locked or not writable counts as empty: then distances are measured again.
"""

from __future__ import annotations

import json
import os
import sqlite3
from contextlib import suppress
from dataclasses import fields
from typing import TYPE_CHECKING, Any

from blake3 import blake3

from git_theta_ext.comparison.distance import Distance, Rank

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

    from typing_extensions import Self

    from git_theta_ext.comparison.compare import ParameterVersions

_VERSION = 1
"""Raise it if the same tensors may get another distance."""

_MOST = 100_000
"""Rows, of about 400 bytes each; the oldest ones are removed first."""

_TABLE = "CREATE TABLE IF NOT EXISTS distances (pair BLOB PRIMARY KEY, value BLOB NOT NULL, checksum BLOB NOT NULL)"
_OLDEST = "DELETE FROM distances WHERE rowid <= (SELECT max(rowid) FROM distances) - ?"
_BUSY_SECONDS = 2


class DistanceCache:
    """Remembers distances; a context manager that closes the database.

    Args:
        folder: Directory of the store.
    """

    def __init__(self, folder: Path) -> None:
        self._path = folder / "distances.sqlite3"
        self._db: sqlite3.Connection | None = None

    def __enter__(self) -> Self:
        """Return the cache itself."""
        return self

    def __exit__(self, *_: object) -> None:
        """Close the database."""
        if self._db is not None:
            self._db.close()

    def get(self, pairs: Mapping[str, ParameterVersions]) -> dict[str, Distance]:
        """Return the distances that are known, by name."""
        found: dict[str, Distance] = {}
        if not self._path.exists():
            return found

        def read(db: sqlite3.Connection) -> None:
            for name, pair in pairs.items():
                key = _key(pair)
                row = db.execute("SELECT value, checksum FROM distances WHERE pair = ?", (key,)).fetchone()
                if row is not None and (distance := _decoded(key, *row)) is not None:
                    found[name] = distance

        self._forgiving(read)
        return found

    def put(self, distances: Mapping[str, tuple[ParameterVersions, Distance]]) -> None:
        """Remember distances."""
        if not distances:
            return
        rows = []
        for pair, distance in distances.values():
            key, value = _key(pair), _encoded(distance)
            rows.append((key, value, _checksum(key, value)))

        def write(db: sqlite3.Connection) -> None:
            with db:
                db.executemany("INSERT OR REPLACE INTO distances VALUES (?, ?, ?)", rows)
                db.execute(_OLDEST, (_MOST,))

        self._forgiving(write)

    def _forgiving(self, work: Callable[[sqlite3.Connection], None]) -> None:
        """Do something with the database, which is removed if it is damaged, and left if it cannot be used."""
        try:
            work(self._opened())
        except sqlite3.OperationalError:
            return  # locked, full, or not writable
        except (sqlite3.DatabaseError, OSError):
            self.__exit__()
            self._db = None
            for suffix in ("", "-journal"):
                with suppress(OSError):
                    self._path.with_name(self._path.name + suffix).unlink()

    def _opened(self) -> sqlite3.Connection:
        if self._db is None:
            # SQLite creates a file that only its owner may write, whatever the umask is.
            with suppress(OSError):
                os.close(os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666))
            db = self._db = sqlite3.connect(self._path, timeout=_BUSY_SECONDS)
            if db.execute("PRAGMA user_version").fetchone()[0] != _VERSION:
                with db:
                    db.execute("DROP TABLE IF EXISTS distances")
                    db.execute(f"PRAGMA user_version = {_VERSION}")
            db.execute(_TABLE)
        return self._db


def _key(pair: ParameterVersions) -> bytes:
    return bytes.fromhex(pair.old.digest + pair.new.digest)


def _checksum(key: bytes, value: bytes) -> bytes:
    return blake3(key + value).digest(16)


def _encoded(distance: Distance) -> bytes:
    values: list[Any] = [getattr(distance, field.name) for field in fields(Distance)]
    rank = values.pop()
    return json.dumps([*values, None if rank is None else [rank.value, rank.exact]]).encode()


def _decoded(key: bytes, value: object, checksum: object) -> Distance | None:
    if not isinstance(value, bytes) or _checksum(key, value) != checksum:
        return None
    values = json.loads(value)
    values[-1] = None if values[-1] is None else Rank(*values[-1])
    return Distance(*values)
