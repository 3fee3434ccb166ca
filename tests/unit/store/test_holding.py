"""A block of small merges reads its tensors once, and its results are stored in one go."""

from __future__ import annotations

import shutil
from contextlib import closing

import pytest
from helpers import packs_of

from git_theta_ext.errors import CorruptError, MissingError, StoreError
from git_theta_ext.model.tensor import TensorSpec
from git_theta_ext.store.bundled import SMALL
from git_theta_ext.store.deltas.decode import Decoder
from git_theta_ext.store.parts import FEWEST
from git_theta_ext.store.store import Store


def _values(*items):
    return {digest: spec for spec, digest, _ in items}


def _damage(store, digest):
    (name,) = packs_of(store, [digest])
    path = store.pack_path(name)
    path.chmod(0o644)
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(data)


def test_what_a_block_puts_is_stored_in_one_pack_at_its_end(store, make):
    one, two = make(100), make(200, 1)
    with store.holding({}):
        store.put([one])
        store.put([two, one])
        assert list(store.pack_files()) == []
        assert store.touch_and_find_missing([one[1], two[1]]) == set()
        assert store.read(two[1], two[0]) == two[2]
    assert len(list(store.pack_files())) == 1
    assert [store.read(digest, spec) for spec, digest, _ in (one, two)] == [one[2], two[2]]


def test_a_block_that_fails_stores_nothing(store, make):
    item = make(100)

    def fail():
        with store.holding({}):
            store.put([item])
            raise StoreError("")

    with pytest.raises(StoreError):
        fail()
    assert store.touch_and_find_missing([item[1]]) == {item[1]}


def test_tensors_are_read_once(store, make):
    one = make(100)
    store.put([one])
    with store.holding(_values(one)):
        _damage(store, one[1])
        assert store.read(one[1], one[0]) == one[2]
        assert store.touch_and_find_missing([one[1]]) == set()
    with pytest.raises(CorruptError):
        store.read(one[1], one[0])


def test_what_was_read_is_known_to_be_sound(store, make, tmp_path):
    item = make(100)
    store.put([item])
    shutil.copytree(store.root / "packs", tmp_path / "copy/packs")
    with closing(Store(tmp_path / "copy", threads=2)) as copy:
        copy.refresh()
        assert not copy.all_proven()
        with copy.holding(_values(item)):
            assert copy.all_proven()


def test_tensors_of_a_bundle_are_decoded_together(store, make, monkeypatch):
    items = [make(10 + seed, seed) for seed in range(FEWEST)]
    alone = make(SMALL, 99)
    store.put([*items, alone])
    decoded = []
    decode = Decoder.decode

    def count(self, blobs, digest, *rest):
        decoded.append(digest)
        decode(self, blobs, digest, *rest)

    monkeypatch.setattr(Decoder, "decode", count)
    with store.holding(_values(*items[:-1], alone)):
        assert len(decoded) == 2
        assert [store.read(digest, spec) for spec, digest, _ in (*items, alone)] == [
            data for *_, data in (*items, alone)
        ]


def test_a_tensor_of_a_bundle_does_not_keep_the_others_in_memory(store, make):
    items = [make(10 + seed, seed) for seed in range(FEWEST)]
    store.put(items)
    with store.holding(_values(items[3])):
        read = store.memory_of([items[3][1::-1]]).read(items[3][1], items[3][0])
        assert read == items[3][2]
        assert len(read.obj) == len(read)


def test_a_damaged_bundle_is_not_held(store, make):
    items = [make(10 + seed, seed) for seed in range(FEWEST)]
    store.put(items)
    (bundle,) = set(store.stored_as(_values(*items)).values())
    _damage(store, bundle)
    with store.holding(_values(*items)):
        assert store.memory_of([items[0][1::-1]]) is None
        with pytest.raises(CorruptError):
            store.read(items[-1][1], items[-1][0])


def test_a_tensor_of_a_bundle_is_not_held_with_another_spec(store, make):
    items = [make(10 + seed, seed) for seed in range(FEWEST)]
    store.put(items)
    wrong = TensorSpec(items[0][0].dtype, (5, 2))
    with store.holding({items[0][1]: wrong, items[1][1]: items[1][0]}):
        assert store.memory_of([items[1][1::-1]]) is None


@pytest.mark.parametrize("absent", [True, False], ids=["missing", "damaged"])
def test_whoever_reads_a_tensor_that_cannot_be_read_finds_out(store, make, absent):
    good, bad = make(100), make(200, 1)
    store.put([good])
    if not absent:
        store.put([bad])
        _damage(store, bad[1])
    with store.holding(_values(good, bad)):
        assert store.read(good[1], good[0]) == good[2]
        assert store.touch_and_find_missing([good[1]]) == set()
        with pytest.raises((MissingError, CorruptError)):
            store.read(bad[1], bad[0])
    assert store.read(good[1], good[0]) == good[2]


def test_a_tensor_of_another_shape_is_not_read_from_memory(store, make):
    spec, digest, data = make(100)
    store.put([(spec, digest, data)])
    with store.holding({digest: spec}), pytest.raises(CorruptError):
        store.read(digest, TensorSpec(spec.dtype, (50, 2)))


def test_what_is_held_cannot_be_changed(store, make):
    item = make(100)
    store.put([item])
    with store.holding(_values(item)):
        assert all(piece.data.readonly for piece in store.read_ahead([item[1::-1]]))
