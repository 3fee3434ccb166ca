"""Records of the manifests of files, by path and stat, in the index."""

from __future__ import annotations

from typing import TYPE_CHECKING

from blake3 import blake3

from git_theta_ext.store.index_schema import as_text

if TYPE_CHECKING:
    from git_theta_ext.store.index import Index


class StatRecords:
    """Records which manifest a file of some path and stat has.

    Args:
        index: The index that has the records.
    """

    def __init__(self, index: Index) -> None:
        self._index = index

    def get(self, path: str, stat: str) -> bytes | None:
        """Return the manifest recorded for a path and a stat; None if there is none."""
        query = "SELECT id, content FROM stats JOIN manifests ON manifest = id WHERE path = ? AND stat = ?"
        rows = self._index.rows(query, (as_text(path), stat))
        # A flipped bit in the database must not get into a commit.
        return next((content for identity, content in rows if blake3(content).digest() == identity), None)

    def put(self, path: str, stat: str, manifest: bytes) -> None:
        """Record the manifest of a path with its stat, and remove its previous one if no other path has it.

        Raises:
            StoreError: The index cannot be written.
        """
        identity, key = blake3(manifest).digest(), as_text(path)
        with self._index.transaction() as db:
            query = "SELECT manifest FROM stats WHERE path = ? AND manifest <> ?"
            previous = db.execute(query, (key, identity)).fetchall()
            db.execute("INSERT OR IGNORE INTO manifests VALUES (?, ?)", (identity, manifest))
            db.execute("INSERT OR REPLACE INTO stats VALUES (?, ?, ?)", (key, stat, identity))
            # To look for all that no path has would read all manifests for each file of a large add.
            unused = "NOT EXISTS (SELECT 1 FROM stats WHERE manifest = id)"
            db.executemany(f"DELETE FROM manifests WHERE id = ? AND {unused}", previous)  # noqa: S608 - ours
