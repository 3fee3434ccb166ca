"""The index knows which bundles tensors are in, also if bundles share tensors or first bytes of digests."""

from __future__ import annotations

import contextlib
import sqlite3
import tempfile
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from git_theta_ext.model.bundle import Bundle
from git_theta_ext.model.tensor import Digest, TensorSpec
from git_theta_ext.store.index import Index
from git_theta_ext.store.index_schema import prepare
from git_theta_ext.store.packs.format import Entry

SPECS = [TensorSpec.of("F32", (2,)), TensorSpec.of("F32", (3, 1))]


def digest(number):
    """Return one of the digests of which every third begins with the same bytes."""
    return Digest(f"{number % 3:016x}{number:048x}")


def entry(numbers):
    bundle = Bundle.of([(SPECS[number % 2], digest(number)) for number in numbers])
    return Entry(bundle.digest, bundle.spec, "dense", (bundle.spec.nbytes,), bundle=bundle)


def expected(entries):
    found = {}
    for one in entries:
        for start, _, name in one.bundle.members():
            found.setdefault(name, {})[one.digest] = start
    return found


def parts_of(index, numbers):
    return {name: dict(held) for name, held in index.parts(map(digest, numbers)).items()}


bundles = st.lists(st.lists(st.integers(0, 30), min_size=1, max_size=8, unique=True), max_size=6)


@given(bundles, bundles, st.sets(st.integers(0, 30)), st.sets(st.integers(0, 5)))
def test_tensors_are_found_in_all_bundles_that_have_them(first, second, asked, dropped):
    with tempfile.TemporaryDirectory() as folder, contextlib.closing(Index(Path(folder) / "index.sqlite3")) as index:
        kept = []
        for number, numbers in enumerate(first):
            index.add_pack("/s", f"{number}", [entry(numbers)], loose=True)
        for number, numbers in enumerate(first):
            if number in dropped:
                index.drop_pack("/s", f"{number}")
            else:
                kept.append(entry(numbers))
        assert parts_of(index, asked).keys() == expected(map(entry, first)).keys() & set(map(digest, asked))
        index.compact()
        index.add_pack("/s", "rest", [entry(numbers) for numbers in second], loose=True)
        every = expected([*kept, *map(entry, second)])
        there = {digest(number) for number in asked} & every.keys()
        assert parts_of(index, asked) == {name: every[name] for name in there}
        assert {name: set(held) for name, held in index.bundles_of(map(digest, asked)).items()} == {
            digest(number): set(every.get(digest(number), ())) for number in asked
        }


@pytest.mark.parametrize("count", [49, 50, 51, 100, 130])
def test_all_tensors_of_large_bundles_are_found(tmp_path, count):
    entries = [entry(range(count)), entry(range(count - 1, 2 * count))]
    with contextlib.closing(Index(tmp_path / "index.sqlite3", pytest.fail)) as index:
        index.add_pack("/s", "p", entries, loose=True)
        assert parts_of(index, range(2 * count + 1)) == expected(entries)


def as_version_4(path, entries):
    """Replace the tables of bundles of an index by those that its version 4 had."""
    with contextlib.closing(sqlite3.connect(path)) as db:
        db.executescript(
            "DROP TABLE bundles; DROP TABLE members; DROP TABLE more_members;"
            "CREATE TABLE bundles (id INTEGER PRIMARY KEY, digest BLOB NOT NULL UNIQUE);"
            "CREATE TABLE members (digest BLOB NOT NULL, bundle INTEGER NOT NULL, start INTEGER NOT NULL,"
            " PRIMARY KEY (digest, bundle)) WITHOUT ROWID; PRAGMA user_version = 4"
        )
        for number, one in enumerate(entries, 1):
            db.execute("INSERT INTO bundles VALUES (?, ?)", (number, bytes.fromhex(one.digest)))
            rows = [(bytes.fromhex(name), number, start) for start, _, name in one.bundle.members()]
            db.executemany("INSERT INTO members VALUES (?, ?, ?)", rows)
        db.commit()


def test_an_index_with_a_row_for_each_tensor_of_a_bundle_is_upgraded(tmp_path):
    path = tmp_path / "index.sqlite3"
    entries = [entry(range(20)), entry(range(15, 40)), entry(range(50, 60))]
    with contextlib.closing(Index(path, pytest.fail)) as index:
        index.add_pack("/s", "p", entries, loose=True, verified=True)
    as_version_4(path, entries)
    with contextlib.closing(Index(path, pytest.fail)) as index:
        assert parts_of(index, range(70)) == expected(entries)
        assert {at.verdict.name for (at,) in index.all_locations().values()} == {"SOUND"}
        index.add_pack("/s", "q", [entry(range(39, 51))], loose=True)
        assert parts_of(index, [39, 50]).keys() == {digest(39), digest(50)}
        assert len(parts_of(index, [39, 50])[digest(50)]) == 2
    with contextlib.closing(prepare(sqlite3.connect(path))) as db:
        tables = {name for (name,) in db.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}
    assert {"bundles", "members", "more_members"} <= tables
    assert "old_members" not in tables
