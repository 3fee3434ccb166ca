"""Remember distances by the digests of both tensors, in ``theta/distances.sqlite3``.

The database is derived. What is damaged, locked or not writable counts as empty: then distances are measured again.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from blake3 import blake3

from git_theta_ext.comparison.distance import Distance, Rank
from git_theta_ext.util.cache_database import CacheDatabase

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Mapping
    from pathlib import Path

    from git_theta_ext.comparison.compare import ParameterVersions

_VERSION = 1
"""Raise it if the same tensors may get another distance."""

_MOST = 100_000
"""Rows, of about 400 bytes each; the oldest ones are removed first."""

_TABLE = ("distances", "(pair BLOB PRIMARY KEY, value BLOB NOT NULL, checksum BLOB NOT NULL)")
_SELECT = "SELECT pair, value, checksum FROM distances WHERE pair IN (%s)"
_TOGETHER = 500
"""Keys in a query, of which SQLite took 999 for a long time."""

_OLDEST = "DELETE FROM distances WHERE rowid <= (SELECT max(rowid) FROM distances) - ?"


class DistanceCache(CacheDatabase):
    """Remembers distances; a context manager that closes the database.

    Args:
        folder: Directory of the store.
    """

    def __init__(self, folder: Path) -> None:
        super().__init__(folder / "distances.sqlite3", _VERSION, [_TABLE])

    def get(self, pairs: Mapping[str, ParameterVersions]) -> dict[str, Distance]:
        """Return the distances that are known, by name."""
        found: dict[str, Distance] = {}

        keys = {name: _key(pair) for name, pair in pairs.items()}

        def look_up(db: sqlite3.Connection) -> dict[bytes, tuple[object, object]]:
            rows: dict[bytes, tuple[object, object]] = {}
            wanted = list(dict.fromkeys(keys.values()))
            for start in range(0, len(wanted), _TOGETHER):
                some = wanted[start : start + _TOGETHER]
                rows.update((key, row) for key, *row in db.execute(_SELECT % ",".join("?" * len(some)), some))
            return rows

        rows = self.read(look_up, None) or {}
        for name, key in keys.items():
            if key in rows and (distance := _decoded(key, *rows[key])) is not None:
                found[name] = distance
        return found

    def put(self, distances: Mapping[str, tuple[ParameterVersions, Distance]]) -> None:
        """Remember distances."""
        if not distances:
            return
        rows = []
        for pair, distance in distances.values():
            key, value = _key(pair), _encoded(distance)
            rows.append((key, value, _checksum(key, value)))

        def insert(db: sqlite3.Connection) -> None:
            db.executemany("INSERT OR REPLACE INTO distances VALUES (?, ?, ?)", rows)
            db.execute(_OLDEST, (_MOST,))

        self.write(insert)


def _key(pair: ParameterVersions) -> bytes:
    return bytes.fromhex(pair.old.digest + pair.new.digest)


def _checksum(key: bytes, value: bytes) -> bytes:
    return blake3(key + value).digest(16)


def _encoded(distance: Distance) -> bytes:
    values: list[Any] = [getattr(distance, name) for name in Distance.__match_args__]
    rank = values.pop()
    return json.dumps([*values, None if rank is None else [rank.value, rank.exact]]).encode()


def _decoded(key: bytes, value: object, checksum: object) -> Distance | None:
    if not isinstance(value, bytes) or _checksum(key, value) != checksum:
        return None
    values = json.loads(value)
    values[-1] = None if values[-1] is None else Rank(*values[-1])
    return Distance(*values)
