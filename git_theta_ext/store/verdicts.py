"""Verdicts on the entries of packs: recorded in the index, and by pack name for packs that are elsewhere."""

from __future__ import annotations

from typing import TYPE_CHECKING

from git_theta_ext.model.tensor import Digest
from git_theta_ext.store.locations import Verdict, only

if TYPE_CHECKING:
    from collections.abc import Iterable

    from git_theta_ext.store.index import Index
    from git_theta_ext.store.locations import Location, Locations


class Verdicts:
    """Records what decoding entries has shown. A lost record costs only the time to decode the entry again.

    A pack's name is the SHA-256 of its bytes, so a verdict is valid for every pack of that name, also on remotes. It
    is not valid for a file whose bytes have changed since.

    Args:
        index: The index that has the records.
    """

    def __init__(self, index: Index) -> None:
        self._index = index

    def record(self, copies: Iterable[tuple[Digest, Location]], verdict: Verdict) -> None:
        """Record a verdict on some entries of packs in the index.

        Raises:
            StoreError: The index cannot be written.
        """
        pack = "SELECT id FROM packs WHERE root = ? AND name = ?"
        query = f"UPDATE blobs SET verdict = ? WHERE digest = ? AND pack = ({pack})"  # noqa: S608 - ours
        rows = [
            (verdict, bytes.fromhex(digest), self._index.key(location.root), location.pack)
            for digest, location in copies
        ]
        with self._index.transaction() as db:
            db.executemany(query, rows)

    def forget(self, root: str, name: str) -> None:
        """Remove the verdicts on the entries of a pack in the index.

        Raises:
            StoreError: The index cannot be written.
        """
        pack = "SELECT id FROM packs WHERE root = ? AND name = ?"
        with self._index.transaction() as db:
            db.execute(f"UPDATE blobs SET verdict = 0 WHERE pack = ({pack})", (self._index.key(root), name))  # noqa: S608 - ours

    def any_unknown(self) -> bool:
        """Return whether any entry was not decoded yet."""
        # The condition repeats that of the partial index: otherwise SQLite does not use it.
        query = "SELECT EXISTS (SELECT 1 FROM blobs WHERE verdict <> 1 AND verdict = 0)"
        return bool(self._index.rows(query)[0][0])

    def all_sound(self) -> bool:
        """Return whether all entries were decoded, and none of them is bad."""
        return not self._index.rows("SELECT EXISTS (SELECT 1 FROM blobs WHERE verdict <> 1)")[0][0]

    def note_bad(self, name: str, digest: Digest) -> None:
        """Record that an entry is bad in every pack of this name, wherever it is.

        Raises:
            StoreError: The index cannot be written.
        """
        with self._index.transaction() as db:
            db.execute("INSERT OR IGNORE INTO bad_entries VALUES (?, ?)", (name, bytes.fromhex(digest)))

    def note_sound(self, name: str) -> None:
        """Record that every entry is sound in every pack of this name, wherever it is.

        Raises:
            StoreError: The index cannot be written.
        """
        with self._index.transaction() as db:
            db.execute("INSERT OR IGNORE INTO sound_packs VALUES (?)", (name,))

    def bad_entries(self) -> set[tuple[str, Digest]]:
        """Return pack name and digest of entries that are bad in every pack of that name."""
        return {
            (name, Digest(digest.hex())) for name, digest in self._index.rows("SELECT name, digest FROM bad_entries")
        }

    def sound_pack(self, name: str) -> bool:
        """Return whether every entry of packs of this name was verified."""
        return bool(self._index.rows("SELECT EXISTS (SELECT 1 FROM sound_packs WHERE name = ?)", (name,))[0][0])

    def sound_packs(self) -> set[str]:
        """Return the names of packs outside the index of which every entry was verified."""
        return {name for (name,) in self._index.rows("SELECT name FROM sound_packs")}

    def damaged(self, root: str) -> set[str]:
        """Return names of packs of a store that have bad entries only because the file does not match its name."""
        query = """
            SELECT DISTINCT name FROM blobs JOIN packs ON pack = id
            WHERE verdict <> 1 AND verdict = 2 AND root = ?
            AND NOT EXISTS (SELECT 1 FROM bad_entries AS bad WHERE bad.name = packs.name AND bad.digest = blobs.digest)
        """
        return {name for (name,) in self._index.rows(query, (self._index.key(root),))}

    def bad_here(self) -> Locations:
        """Return the bad locations in the index."""
        rows = self._index.rows("SELECT digest FROM blobs WHERE verdict <> 1 AND verdict = 2")
        return only(self._index.locations({Digest(digest.hex()) for (digest,) in rows}), Verdict.BAD)
