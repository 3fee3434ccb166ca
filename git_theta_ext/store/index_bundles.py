"""The tables of the index that say which bundles tensors are in.

What they say is true wherever a bundle is, and even if it is in no pack: its digest is that of the list of its tensors.
The first eight bytes of a digest find the first bundle that has such a tensor, and the list of the bundle says whether
it has this one, and all others that are asked for with it. What other bundles have the same first bytes is in a table
of its own, which is mostly empty.
"""

from __future__ import annotations

import struct
from collections import defaultdict
from itertools import groupby, islice, repeat
from typing import TYPE_CHECKING, Any

from git_theta_ext.model.tensor import digest_of

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Callable, Iterable, Sequence

    from git_theta_ext.model.bundle import Bundle
    from git_theta_ext.model.tensor import Digest
    from git_theta_ext.store.parts import BundlesOf

SCHEMA = """
CREATE TABLE bundles (
    id INTEGER PRIMARY KEY, digest BLOB NOT NULL UNIQUE, members BLOB NOT NULL, starts BLOB NOT NULL,
    shared INTEGER NOT NULL
);
CREATE TABLE members (prefix INTEGER PRIMARY KEY, bundle INTEGER NOT NULL);
CREATE TABLE more_members (
    prefix INTEGER NOT NULL, bundle INTEGER NOT NULL, PRIMARY KEY (prefix, bundle)
) WITHOUT ROWID;
"""
"""``members`` of a bundle are the digests of its tensors, ``starts`` their first bytes, as little-endian 32-bit
numbers. It is ``shared`` if another bundle may have one of its tensors."""

_BATCH = 500
_ROWS = 50
_ADD_ONE = "INSERT OR IGNORE INTO members (prefix, bundle) VALUES (?2, ?1)"
_ADD_SOME = _ADD_ONE + "".join([f", (?{at}, ?1)" for at in range(3, _ROWS + 2)])
"""Adds so many rows at once, which takes half the time. SQLite compiles both statements only once."""

_DIGEST_BYTES = 32
_PREFIX = 16
"""Hexadecimal digits of a digest that find it."""

_GONE = "SELECT id FROM bundles WHERE digest NOT IN (SELECT digest FROM blobs)"


def add_bundles(db: sqlite3.Connection, bundles: Iterable[Bundle]) -> bool:
    """Record what some bundles consist of, and return whether any of them was not known."""
    fresh = [bundle for bundle in bundles if not _is_known(db, bytes.fromhex(bundle.digest))]
    for bundle in fresh:
        _add(db, bytes.fromhex(bundle.digest), bundle.raw, bundle.starts())
    return bool(fresh)


def _is_known(db: sqlite3.Connection, digest: bytes) -> bool:
    return bool(db.execute("SELECT EXISTS (SELECT 1 FROM bundles WHERE digest = ?)", (digest,)).fetchone()[0])


def _add(db: sqlite3.Connection, digest: bytes, members: bytes, starts: Sequence[int]) -> None:
    # In the order of the table: SQLite looks for the place of a row that does not follow the one before.
    prefixes = sorted(struct.unpack(f">{len(members) // 8}q", members)[:: _DIGEST_BYTES // 8])
    if len(set(prefixes)) < len(prefixes):  # a tensor may be in it twice
        once = {members[_DIGEST_BYTES * at : _DIGEST_BYTES * (at + 1)]: start for at, start in enumerate(starts)}
        members, starts = b"".join(once), [*once.values()]
    row = digest, members, struct.pack(f"<{len(starts)}I", *starts)
    made = db.execute("INSERT OR IGNORE INTO bundles (digest, members, starts, shared) VALUES (?, ?, ?, 0)", row)
    if not made.rowcount:  # two of the same in a pack
        return
    number = made.lastrowid
    if _list(db, number, prefixes) < len(prefixes):
        others = {number}
        for batch in _batches(prefixes):
            query = f"SELECT prefix, bundle FROM members WHERE bundle <> ? AND prefix IN ({_marks(batch)})"  # noqa: S608 - only question marks
            found = db.execute(query, (number, *batch)).fetchall()
            others.update(bundle for _, bundle in found)
            rows = {(prefix, number) for prefix, _ in found}
            db.executemany("INSERT OR IGNORE INTO more_members (prefix, bundle) VALUES (?, ?)", rows)
        if len(others) > 1:
            db.executemany("UPDATE bundles SET shared = 1 WHERE id = ?", ((other,) for other in others))


def _list(db: sqlite3.Connection, number: int | None, prefixes: Sequence[int]) -> int:
    """Add the tensors of a bundle, and return how many of them had no row with the same first bytes."""
    whole = len(prefixes) // _ROWS * _ROWS
    added = sum(db.execute(_ADD_SOME, (number, *prefixes[at : at + _ROWS])).rowcount for at in range(0, whole, _ROWS))
    return added + sum(db.execute(_ADD_ONE, (number, prefix)).rowcount for prefix in prefixes[whole:])


def renew_bundles(db: sqlite3.Connection) -> None:
    """Replace the tables of the version before, which had a row for each tensor with its start in a bundle."""
    digests = dict(db.execute("SELECT id, digest FROM bundles"))
    db.execute("ALTER TABLE members RENAME TO old_members")
    db.execute("DROP TABLE bundles")
    for statement in filter(str.strip, SCHEMA.split(";")):
        db.execute(statement)
    old = db.execute("SELECT bundle, digest, start FROM old_members ORDER BY bundle, start")
    for number, rows in groupby(old.fetchall(), key=lambda row: row[0]):
        members = [(member, start) for _, member, start in rows]
        if number in digests:
            _add(db, digests[number], b"".join(member for member, _ in members), [start for _, start in members])
    db.execute("DROP TABLE old_members")


def member_counts(rows: Callable[[str, Sequence[object]], list[Any]]) -> dict[Digest, int]:
    """Return how many different tensors each bundle has.

    Args:
        rows: Returns the rows of a query.
    """
    query = f"SELECT digest, LENGTH(members) / {_DIGEST_BYTES} FROM bundles"  # noqa: S608 - ours
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
    db.execute(f"DELETE FROM more_members WHERE bundle IN ({_GONE})")  # noqa: S608 - ours
    db.execute(f"DELETE FROM bundles WHERE id IN ({_GONE})")  # noqa: S608 - ours
    db.execute("INSERT OR IGNORE INTO members (prefix, bundle) SELECT prefix, bundle FROM more_members")
    db.execute(
        "DELETE FROM more_members WHERE EXISTS (SELECT 1 FROM members m WHERE m.prefix = more_members.prefix"
        " AND m.bundle = more_members.bundle)"
    )


class _Held:
    """A bundle in the index.

    Attributes:
        digest: Its digest.
        members: The digests of its tensors.
        shared: Whether another bundle may have one of them.
    """

    __slots__ = ("_places", "_starts", "digest", "members", "shared")

    def __init__(self, digest: bytes, members: bytes, starts: bytes, shared: int) -> None:
        self.digest = digest_of(digest)
        self.members: list[Digest] = members.hex(" ", _DIGEST_BYTES).split(" ")  # type: ignore[assignment]
        self.shared = bool(shared)
        self._starts = starts
        self._places: dict[Digest, int] | None = None

    @property
    def places(self) -> dict[Digest, int]:
        """The first byte of each tensor."""
        if self._places is None:
            starts = struct.unpack(f"<{len(self._starts) // 4}I", self._starts)
            self._places = dict(zip(self.members, starts, strict=True))
        return self._places


class KnownBundles:
    """What was read of these tables, until another process changes the database. Whoever changes it here clears this.

    Args:
        rows: Returns the rows of a query.
    """

    def __init__(self, rows: Callable[[str, Sequence[object]], list[Any]]) -> None:
        self._rows = rows
        self._version = -1
        self._held: dict[int, _Held] = {}
        self._by_digest: dict[Digest, _Held] = {}
        self._bundles_of: dict[Digest, tuple[Digest, ...]] = {}
        self._last: tuple[set[Digest], BundlesOf] = set(), {}

    def clear(self) -> None:
        """Forget what was read."""
        self._held, self._by_digest, self._bundles_of, self._last = {}, {}, {}, (set(), {})

    def bundles_of(self, digests: set[Digest]) -> BundlesOf:
        """Return the bundles that each of some tensors is in. The steps of a push ask for the same again."""
        self._forget_old()
        if digests != self._last[0]:
            self._last = digests, self._found(digests)
        return self._last[1]

    def parts(self, digests: set[Digest]) -> dict[Digest, list[tuple[Digest, int]]]:
        """Return the bundles that some tensors are in, and the position of each tensor in them."""
        self._forget_old()
        return {
            digest: [(bundle, self._by_digest[bundle].places[digest]) for bundle in bundles]
            for digest, bundles in self._found(digests).items()
            if bundles
        }

    def _found(self, digests: set[Digest]) -> dict[Digest, tuple[Digest, ...]]:
        self._read(digests)
        # The texts of the caller are the keys: comparing texts with themselves takes less time.
        return dict(zip(digests, map(self._bundles_of.get, digests, repeat(())), strict=True))

    def _forget_old(self) -> None:
        version = self._rows("PRAGMA data_version", ())[0][0]
        if version != self._version:
            self.clear()
            self._version = version

    def _read(self, digests: set[Digest]) -> None:
        todo = digests.difference(self._bundles_of)
        if not todo or not self._rows("SELECT EXISTS (SELECT 1 FROM bundles)", ())[0][0]:  # as in most repositories
            return
        while todo:
            batch = [*islice(todo, _BATCH)]
            todo.difference_update(batch)
            prefixes = struct.unpack(f">{len(batch)}q", bytes.fromhex("".join([digest[:_PREFIX] for digest in batch])))
            numbers = self._numbers_of(prefixes)
            for number in self._load({number for several in numbers.values() for number in several}):
                held = self._held[number]
                if not held.shared:
                    self._bundles_of.update(dict.fromkeys(held.members, (held.digest,)))
                    todo.difference_update(held.members)
            for digest, prefix in zip(batch, prefixes, strict=True):
                if digest not in self._bundles_of:
                    known = [self._held[number] for number in numbers.get(prefix, ()) if number in self._held]
                    self._bundles_of[digest] = tuple([held.digest for held in known if digest in held.places])

    def _numbers_of(self, prefixes: Sequence[int]) -> dict[int, list[int]]:
        numbers: dict[int, list[int]] = defaultdict(list)
        for table in ("members", "more_members"):
            query = f"SELECT prefix, bundle FROM {table} WHERE prefix IN ({_marks(prefixes)})"  # noqa: S608 - ours
            for prefix, number in self._rows(query, prefixes):
                numbers[prefix].append(number)
        return numbers

    def _load(self, numbers: set[int]) -> set[int]:
        """Read bundles that were not read before, and return which of them there are."""
        for batch in _batches(sorted(numbers - self._held.keys())):
            # Another process may have just forgotten some.
            query = f"SELECT id, digest, members, starts, shared FROM bundles WHERE id IN ({_marks(batch)})"  # noqa: S608 - only question marks
            self._held.update((number, _Held(*row)) for number, *row in self._rows(query, batch))
            self._by_digest.update((self._held[n].digest, self._held[n]) for n in batch if n in self._held)
        return numbers & self._held.keys()


def _batches(numbers: Sequence[int]) -> Iterable[Sequence[int]]:
    return (numbers[at : at + _BATCH] for at in range(0, len(numbers), _BATCH))


def _marks(values: Sequence[object]) -> str:
    return ",".join("?" * len(values))
