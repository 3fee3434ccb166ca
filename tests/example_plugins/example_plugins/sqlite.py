"""A remote in one SQLite file: sqlite:///path/to/file."""

from __future__ import annotations

import sqlite3
from contextlib import closing, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from git_theta_ext.errors import ConfigError, CorruptError, MissingError, RemoteError
from git_theta_ext.interfaces import RemoteType, check_key, check_prefix

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from git_theta_ext.interfaces import RemoteContext

LARGEST = (1 << 31) - 1  # bytes of an object in SQLite


class Sqlite:
    """Objects are rows. Each call has a connection of its own, since calls come from several threads."""

    def __init__(self, path: Path) -> None:
        self.path = path
        with self._connection() as connection:
            connection.execute("CREATE TABLE IF NOT EXISTS objects (key TEXT PRIMARY KEY, data BLOB NOT NULL)")

    def list(self, prefix: str) -> Iterator[str]:
        """Yield the keys that begin with a prefix."""
        check_prefix(prefix)
        with self._connection() as connection:
            query = "SELECT key FROM objects WHERE substr(key, 1, ?) = ?"
            rows = connection.execute(query, (len(prefix), prefix)).fetchall()
        yield from (key for (key,) in rows)

    def get(self, key: str, start: int = 0, end: int | None = None) -> bytes:
        """Return a range of an object; one that ends after the object is shorter."""
        check_key(key)
        with self._connection() as connection:
            query = "SELECT substr(data, ?, ?) FROM objects WHERE key = ?"
            row = connection.execute(query, (start + 1, (LARGEST if end is None else end) - start, key)).fetchone()
        if row is None:
            raise MissingError(f"{key} is not in {self.path}")
        return bytes(row[0] or b"")

    def fetch(self, key: str, path: Path, nbytes: int) -> None:
        """Continue a file that an earlier call may have begun; never write more than ``nbytes``."""
        begun = path.stat().st_size if path.exists() else 0
        if begun > nbytes:
            begun = 0
        rest = self.get(key, begun, nbytes + 1)
        if begun + len(rest) != nbytes:
            raise CorruptError(f"{key} does not have {nbytes} bytes")
        with path.open("ab" if begun else "wb") as file:
            file.write(rest)

    def put(self, key: str, path: Path) -> bool:
        """Store a file unless the key exists; other readers see all of it or nothing."""
        check_key(key)
        with self._connection() as connection:
            added = connection.execute("INSERT OR IGNORE INTO objects VALUES (?, ?)", (key, path.read_bytes()))
            return added.rowcount == 1

    def publish(self, entries: Mapping[str, Path]) -> None:
        """Store the index entries of a push in one transaction."""
        rows = [(check_key(key), path.read_bytes()) for key, path in entries.items()]
        with self._connection() as connection:
            connection.executemany("INSERT OR IGNORE INTO objects VALUES (?, ?)", rows)

    def keep(self, keys: Iterable[str]) -> set[str]:
        """Return which keys are there. A remote that removes old objects would make these young again."""
        wanted = {check_key(key) for key in keys}
        return wanted & set(self.list(""))

    @contextmanager
    def _connection(self) -> Iterator[sqlite3.Connection]:
        try:
            with closing(sqlite3.connect(self.path, timeout=60)) as connection, connection:
                yield connection
        except sqlite3.Error as error:
            raise RemoteError(f"{self.path}: {error}") from error


def open_remote(url: str, options: Mapping[str, Any], context: RemoteContext) -> Sqlite:
    """Open the file at a URL. It is the same one for every git remote."""
    del context
    path = Path(url.removeprefix("sqlite://"))
    if not path.is_absolute() or options:
        raise ConfigError(f"{url}: not sqlite:///path/to/file, or settings that a SQLite remote does not have")
    return Sqlite(path)


REMOTE = RemoteType(("sqlite",), open_remote)
