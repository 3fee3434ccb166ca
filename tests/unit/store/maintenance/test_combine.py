import hashlib
import itertools
import os
from types import SimpleNamespace

import pytest
from helpers import packs_of

from git_theta_ext.errors import StoreError
from git_theta_ext.store.index import Index
from git_theta_ext.store.maintenance import combine
from git_theta_ext.store.maintenance.combine import combined
from git_theta_ext.store.store import Store
from git_theta_ext.util.files import sha256_of


def pack_files(store):
    return {path.name for _, path in store.pack_files()}


@pytest.fixture
def committed(store, make, steps):
    """Return tensors that were stored one by one, as commits do, and the names of their packs."""
    items = [*steps(4), *(make(500, seed) for seed in range(4))]
    for item in items:
        store.put([item])
    return items, pack_files(store)


def digests(items):
    return [digest for _, digest, _ in items]


def test_packs_of_many_commits_become_one_that_decodes_to_the_same(store, committed, tmp_path):
    items, before = committed
    (name,) = combined(store, before)
    assert pack_files(store) == packs_of(store, digests(items)) == {name}
    for spec, digest, data in items:
        assert store.read(digest, spec) == data
    assert combined(store, {name}) == {name}
    again = Store(tmp_path / "theta")  # as its header says, not as the index does
    again.index.close()
    (tmp_path / "theta" / "index.sqlite3").unlink()
    again.index = Index(tmp_path / "theta" / "index.sqlite3")
    again.refresh()
    assert again.index.locations(digests(items)).keys() == set(digests(items))
    again.close()


def test_deltas_are_copied_as_they_are(store, steps, lean):
    items = steps(6)
    store.put(items[:1])
    names = {lean(store, new, old) for old, new in itertools.pairwise(items)}
    assert store.touch_and_find_missing(digests(items)) == set()
    (name,) = combined(store, names)
    assert all(location.pack == name for d in digests(items[1:]) for location in store.locations([d])[d])
    assert store.read(items[-1][1], items[-1][0]) == items[-1][2]


def test_the_order_is_that_of_the_commits(store, committed):
    items, before = committed
    (name,) = combined(store, before)
    entries = store.reader.header(store.pack_path(name)).entries
    assert [entry.digest for entry in entries] == digests(items)


def test_a_few_packs_stay(store, make):
    for seed in range(4):
        store.put([make(500, seed)])
    assert combined(store, pack_files(store)) == pack_files(store)


def test_other_packs_and_large_ones_stay(store, committed, make, monkeypatch):
    _, before = committed
    monkeypatch.setattr(combine, "SMALLEST_LIMIT", 1 << 17)
    store.put([make(1 << 16, 99)])
    (large,) = pack_files(store) - before
    other = min(before)
    made = combined(store, {large, *before} - {other})
    assert large in made
    assert pack_files(store) == made | {other}


def test_what_recoding_may_make_smaller_is_kept_apart(store, committed):
    _, before = committed
    store.index.mark_recoded(str(store.root), sorted(before)[::2])
    assert combined(store, before) == before  # four of each kind


@pytest.mark.parametrize("fault", ["damaged", "gone", "full"])
def test_whatever_goes_wrong_the_packs_stay(store, committed, fault, monkeypatch):
    _, before = committed
    path = store.pack_path(min(before))
    if fault == "damaged":
        path.chmod(0o644)
        path.write_bytes(path.read_bytes()[:-1] + b"\0")
    elif fault == "gone":
        path.unlink()
    else:

        def full(*_):
            raise StoreError("the disk is full")

        monkeypatch.setattr(combine, "finish_packs", full)
    left = pack_files(store)
    made = combined(store, before)
    if fault == "gone":
        assert path.name in made
        assert len(made) == 2
    else:
        assert made == before
        assert pack_files(store) == left
    assert not list((store.root / "tmp").iterdir())


def test_bytes_that_the_disk_returns_in_another_way_replace_nothing(store, committed, monkeypatch):
    _, before = committed

    def copied(sources, file):
        combine_content(sources, file)
        file.seek(-1, os.SEEK_END)
        file.write(b"\x5a")

    combine_content = combine._copy_content
    monkeypatch.setattr(combine, "_copy_content", copied)
    assert combined(store, before) == pack_files(store) == before


def test_every_byte_is_hashed_twice_to_prove_what_it_was_and_to_name_what_it_is(store, committed, monkeypatch):
    _, before = committed
    hashed = []

    class Hasher:
        def __init__(self, data=b""):
            self.hasher = hashlib.sha256(data)
            hashed.append(len(data))

        def update(self, data):
            self.hasher.update(data)
            hashed.append(len(data))

        def hexdigest(self):
            return self.hasher.hexdigest()

    size = sum(store.pack_path(name).stat().st_size for name in before)
    monkeypatch.setattr(combine, "hashlib", SimpleNamespace(sha256=Hasher))
    (name,) = combined(store, before)
    assert sum(hashed) == size
    assert sha256_of(store.pack_path(name)) == name
