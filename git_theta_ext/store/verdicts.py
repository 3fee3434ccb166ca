"""What is known of packs' entries by decoding them: kept in the index, and by name for packs that are not here."""

from __future__ import annotations

from typing import TYPE_CHECKING

from git_theta_ext.model.tensor import Digest
from git_theta_ext.store.index import as_text
from git_theta_ext.store.locations import Verdict, only

if TYPE_CHECKING:
    from collections.abc import Iterable

    from git_theta_ext.store.index import Index
    from git_theta_ext.store.locations import Location, Locations


class Verdicts:
    """Derived as all of the index is: what is forgotten is found out again.

    A pack's name is the SHA-256 of its bytes, so what decoding it has shown holds for every pack of that name, on
    remotes as well. It says nothing of a file whose bytes are no longer those.

    Args:
        index: Where they are kept.
    """

    def __init__(self, index: Index) -> None:
        self._index = index

    def record(self, found: Iterable[tuple[Digest, Location]], verdict: Verdict) -> None:
        """Note what decoding some entries of packs that are here has shown.

        Raises:
            StoreError: The index cannot be written.
        """
        pack = "SELECT id FROM packs WHERE root = ? AND name = ?"
        query = f"UPDATE blobs SET verdict = ? WHERE digest = ? AND pack = ({pack})"  # noqa: S608 - ours
        rows = [(verdict, bytes.fromhex(digest), as_text(location.root), location.pack) for digest, location in found]
        with self._index.transaction() as db:
            db.executemany(query, rows)

    def forget(self, root: str, name: str) -> None:
        """Forget what was found out of the entries of a pack that is here.

        Raises:
            StoreError: The index cannot be written.
        """
        pack = "SELECT id FROM packs WHERE root = ? AND name = ?"
        with self._index.transaction() as db:
            db.execute(f"UPDATE blobs SET verdict = 0 WHERE pack = ({pack})", (as_text(root), name))  # noqa: S608 - ours

    def any_unknown(self) -> bool:
        """Tell whether there is an entry that was not decoded yet."""
        # In the words of the partial index, else SQLite does not use it.
        query = "SELECT EXISTS (SELECT 1 FROM blobs WHERE verdict <> 1 AND verdict = 0)"
        return bool(self._index.rows(query)[0][0])

    def note_bad(self, name: str, digest: Digest) -> None:
        """Note that a pack of this name, wherever it lies, does not hold a tensor that it says to hold.

        Raises:
            StoreError: The index cannot be written.
        """
        with self._index.transaction() as db:
            db.execute("INSERT OR IGNORE INTO bad_entries VALUES (?, ?)", (name, bytes.fromhex(digest)))

    def note_sound(self, name: str) -> None:
        """Note that a pack of this name, wherever it lies, holds all that it says to hold.

        Raises:
            StoreError: The index cannot be written.
        """
        with self._index.transaction() as db:
            db.execute("INSERT OR IGNORE INTO sound_packs VALUES (?)", (name,))

    def bad_entries(self) -> set[tuple[str, Digest]]:
        """Return name and digest of entries that are bad wherever a pack of that name lies."""
        return {
            (name, Digest(digest.hex())) for name, digest in self._index.rows("SELECT name, digest FROM bad_entries")
        }

    def sound_pack(self, name: str) -> bool:
        """Tell whether every entry of a pack that had this name was verified."""
        return bool(self._index.rows("SELECT EXISTS (SELECT 1 FROM sound_packs WHERE name = ?)", (name,))[0][0])

    def sound_packs(self) -> set[str]:
        """Return the names of packs of which every entry was verified, and that are no longer here, or never were."""
        return {name for (name,) in self._index.rows("SELECT name FROM sound_packs")}

    def damaged(self, root: str) -> set[str]:
        """Return names of packs of a store whose entries are bad only since the file is not what its name says."""
        query = """
            SELECT DISTINCT name FROM blobs JOIN packs ON pack = id
            WHERE verdict <> 1 AND verdict = 2 AND root = ?
            AND NOT EXISTS (SELECT 1 FROM bad_entries AS bad WHERE bad.name = packs.name AND bad.digest = blobs.digest)
        """
        return {name for (name,) in self._index.rows(query, (as_text(root),))}

    def bad_here(self) -> Locations:
        """Return the entries of packs in the index that are bad."""
        found = self._index.rows("SELECT digest FROM blobs WHERE verdict <> 1 AND verdict = 2")
        return only(self._index.locations({Digest(digest.hex()) for (digest,) in found}), Verdict.BAD)
