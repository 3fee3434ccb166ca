"""The tables of the index that say which bundles tensors are in.

What they say is true wherever a bundle is, and even if it is in no pack: its digest is that of the list of its tensors.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from git_theta_ext.model.tensor import digest_of

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Callable, Iterable, Sequence

    from git_theta_ext.model.bundle import Bundle
    from git_theta_ext.model.tensor import Digest

_BATCH = 500
_GONE = "SELECT id FROM bundles WHERE digest NOT IN (SELECT digest FROM blobs)"


def add_bundles(db: sqlite3.Connection, bundles: Iterable[Bundle]) -> bool:
    """Record what some bundles consist of, and return whether any of them was not known."""
    changed = False
    for bundle in bundles:
        digest = bytes.fromhex(bundle.digest)
        fresh = db.execute("INSERT OR IGNORE INTO bundles (digest) VALUES (?)", (digest,))
        if not fresh.rowcount:
            continue
        changed = True
        # In the order of the table: SQLite looks for the place of a row that does not follow the one before.
        rows = [(member, fresh.lastrowid, start) for member, start in sorted(bundle.starts())]
        db.executemany("INSERT OR IGNORE INTO members (digest, bundle, start) VALUES (?, ?, ?)", rows)
    return changed


def find_parts(
    rows: Callable[[str, Sequence[object]], list[Any]], digests: Iterable[Digest]
) -> dict[Digest, list[tuple[Digest, int]]]:
    """Return the bundles that tensors are in, and the position of each tensor in them.

    Args:
        rows: Returns the rows of a query.
        digests: Digests of the tensors. Those that are in no bundle are left out.
    """
    parts: dict[Digest, list[tuple[Digest, int]]] = {}
    if not rows("SELECT EXISTS (SELECT 1 FROM bundles)", ())[0][0]:  # as in most repositories
        return parts
    wanted = {bytes.fromhex(digest): digest for digest in digests}
    order = sorted(wanted)  # neighbours are on the same pages
    names: dict[int, Digest | None] = {}
    for at in range(0, len(order), _BATCH):
        batch = order[at : at + _BATCH]
        query = f"SELECT digest, bundle, start FROM members WHERE digest IN ({','.join('?' * len(batch))})"  # noqa: S608 - only question marks
        for digest, bundle, start in rows(query, batch):
            if bundle not in names:
                held = rows("SELECT digest FROM bundles WHERE id = ?", (bundle,))
                names[bundle] = digest_of(held[0][0]) if held else None  # another process has just forgotten it
            if (name := names[bundle]) is None:
                continue
            found = wanted[digest]
            if found in parts:
                parts[found].append((name, start))
            else:
                parts[found] = [(name, start)]
    return parts


def member_counts(rows: Callable[[str, Sequence[object]], list[Any]]) -> dict[Digest, int]:
    """Return how many different tensors each bundle has.

    Args:
        rows: Returns the rows of a query.
    """
    counted = "SELECT bundle, COUNT(*) AS count FROM members GROUP BY bundle"
    query = f"SELECT digest, count FROM bundles JOIN ({counted}) ON bundle = id"  # noqa: S608 - ours
    return {digest_of(digest): count for digest, count in rows(query, ())}


def any_gone(rows: Callable[[str, Sequence[object]], list[Any]]) -> bool:
    """Return whether there are records of bundles that are in no pack.

    Args:
        rows: Returns the rows of a query.
    """
    return bool(rows(f"SELECT EXISTS ({_GONE})", ())[0][0])


def forget_gone(db: sqlite3.Connection) -> None:
    """Remove the records of bundles that are in no pack."""
    db.execute(f"DELETE FROM members WHERE bundle IN ({_GONE})")  # noqa: S608 - ours
    db.execute(f"DELETE FROM bundles WHERE id IN ({_GONE})")  # noqa: S608 - ours
