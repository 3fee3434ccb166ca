"""What the index's database says that is wrong with it: damage, or something that passes."""

from __future__ import annotations

import sqlite3

_DAMAGE = ("no such table", "no such column", "no such index", "Could not decode to UTF-8")
"""What errors begin with that no sound database with our tables gives."""


def no_warning(_: str) -> None:
    """Stand in for a caller that does not want to be warned."""


class OtherVersionError(sqlite3.DatabaseError):
    """The database has other tables than this program reads."""


def is_damage(error: sqlite3.Error) -> bool:
    """Tell whether a database is damaged, and not locked, full, or out of reach."""
    if isinstance(error, sqlite3.OperationalError):
        cut_short = getattr(error, "sqlite_errorname", "") == "SQLITE_IOERR_SHORT_READ"
        return cut_short or str(error).startswith(_DAMAGE)
    return isinstance(error, sqlite3.DatabaseError) and not isinstance(error, sqlite3.ProgrammingError)


def hint_of(error: sqlite3.Error) -> str:
    """Return what the user can do where the database is not damaged."""
    if "full" in str(error):
        return "free some space and run the command again; nothing was lost"
    if "locked" in str(error):
        return "another process is writing to it; run the command again"
    return "check the disk and the directory's permissions, and run the command again; nothing was lost"
