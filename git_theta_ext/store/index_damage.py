"""Tell errors of a damaged index from temporary ones."""

from __future__ import annotations

import sqlite3

_DAMAGE = ("no such table", "no such column", "no such index", "Could not decode to UTF-8")
"""Beginnings of error messages that only a damaged database with our tables causes."""


def no_warning(_: str) -> None:
    """Ignore a warning."""


class OtherVersionError(sqlite3.DatabaseError):
    """The database has the tables of another version."""


def is_damage(error: sqlite3.Error) -> bool:
    """Return whether an error means that the database is damaged, and not that it is locked, full or inaccessible."""
    if isinstance(error, sqlite3.OperationalError):
        cut_short = getattr(error, "sqlite_errorname", "") == "SQLITE_IOERR_SHORT_READ"
        return cut_short or str(error).startswith(_DAMAGE)
    return isinstance(error, sqlite3.DatabaseError) and not isinstance(error, sqlite3.ProgrammingError)


def hint_of(error: sqlite3.Error) -> str:
    """Return a hint for an error of a database that is not damaged."""
    if "full" in str(error):
        return "free some space and run the command again; nothing was lost"
    if "locked" in str(error):
        return "another process is writing to it; run the command again"
    return "check the disk and the directory's permissions, and run the command again; nothing was lost"
