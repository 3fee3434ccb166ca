"""A SQLite database with what can be computed again.

What is damaged, locked or not writable counts as empty.
"""

from __future__ import annotations

import os
import sqlite3
from contextlib import suppress
from typing import TYPE_CHECKING, TypeVar

from git_theta_ext.util.system import open_file

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from typing_extensions import Self

T = TypeVar("T")

_BUSY_SECONDS = 2


class CacheDatabase:
    """A database of a cache; a context manager that closes it.

    Args:
        path: Path of the database, which is created when something is written.
        version: Version of the content. A database of another version is emptied.
        tables: Name of each table and its columns and options, as ``CREATE TABLE`` takes them.
    """

    def __init__(self, path: Path, version: int, tables: Sequence[tuple[str, str]]) -> None:
        self._path = path
        self._version = version
        self._tables = tables
        self._db: sqlite3.Connection | None = None

    def __enter__(self) -> Self:
        """Return the database itself."""
        return self

    def __exit__(self, *_: object) -> None:
        """Close the database."""
        if self._db is not None:
            self._db.close()
            self._db = None

    def read(self, work: Callable[[sqlite3.Connection], T], otherwise: T) -> T:
        """Return what a function reads, or ``otherwise`` if there is no database or it cannot be used."""
        return self._forgiving(work, otherwise) if self._path.exists() else otherwise

    def write(self, work: Callable[[sqlite3.Connection], object]) -> None:
        """Let a function write in one transaction. If the database cannot be used, nothing is written."""

        def together(db: sqlite3.Connection) -> None:
            with db:
                work(db)

        self._forgiving(together, None)

    def _forgiving(self, work: Callable[[sqlite3.Connection], T], otherwise: T) -> T:
        """Do something with the database, which is removed if it is damaged, and left if it cannot be used."""
        try:
            return work(self._opened())
        except sqlite3.OperationalError:
            return otherwise  # locked, full, or not writable
        except (sqlite3.DatabaseError, OSError):
            self.__exit__()
            for suffix in ("", "-journal"):
                with suppress(OSError):
                    self._path.with_name(self._path.name + suffix).unlink()
            return otherwise

    def _opened(self) -> sqlite3.Connection:
        if self._db is None:
            # SQLite creates a file that only its owner may write, whatever the umask is.
            with suppress(OSError):
                os.close(open_file(self._path, os.O_RDWR | os.O_CREAT))
            db = self._db = sqlite3.connect(self._path, timeout=_BUSY_SECONDS)
            if db.execute("PRAGMA user_version").fetchone()[0] != self._version:
                with db:
                    for name, _ in self._tables:
                        db.execute(f"DROP TABLE IF EXISTS {name}")
                    db.execute(f"PRAGMA user_version = {self._version}")
            for name, columns in self._tables:
                db.execute(f"CREATE TABLE IF NOT EXISTS {name} {columns}")
        return self._db
