"""A pack counts as holding a tensor only if it was seen to."""

import itertools

import pytest
from helpers import packs_of

from git_theta_ext.errors import MissingError
from git_theta_ext.store.deltas.decode import Decoder
from git_theta_ext.store.locations import Verdict
from git_theta_ext.store.packs.format import Entry
from git_theta_ext.store.store import Store


@pytest.fixture
def fresh(store):
    """Return a function that opens the store as another process would."""
    opened = []

    def again(*alternates, root=store.root):
        opened.append(Store(root, alternates, threads=2))
        return opened[-1]

    yield again
    for each in opened:
        each.close()


@pytest.fixture
def decoded(monkeypatch):
    """Return the list of all digests that are decoded from now on, one for each chunk."""
    seen, decode = [], Decoder.decode
    monkeypatch.setattr(
        Decoder,
        "decode",
        lambda self, blobs, digest, *rest: seen.append(digest) or decode(self, blobs, digest, *rest),
    )
    return seen


def forget(store):
    store.close()
    for path in store.root.glob("index.sqlite3*"):
        path.unlink()


def rot(path):
    data = bytearray(path.read_bytes())
    data[-3] ^= 1
    path.unlink()
    path.write_bytes(data)


def verdicts(store):
    return {(h.pack, digest): h.verdict for digest, held in store.index.all_locations().items() for h in held}


def test_what_leans_on_something_that_comes_later_counts_only_once_it_was_decoded(store, steps, plant, lean):
    base, honest, other = steps(3)
    lean(store, honest, base)
    bad = plant(store, Entry(other[1], other[0], "delta", (1,), bases=(base[1],)), b"\0")
    store.put([base])
    assert store.touch_and_find_missing([honest[1], other[1]]) == {other[1]}
    assert store.put([other]) > 0
    assert all(store.read(digest, spec) == data for spec, digest, data in (base, honest, other))
    assert store.verdicts.bad_entries() == {(bad, other[1])}
    assert not store.has_pack(bad)


def test_what_an_unknown_encoding_holds_does_not_count(store, make, plant):
    item = make(100)
    plant(store, Entry(item[1], item[0], "from_tomorrow", (4,)), b"abcd")
    assert store.touch_and_find_missing([item[1]]) == {item[1]}
    store.put([item])
    assert store.read(item[1], item[0]) == item[2]


def test_the_true_tensor_takes_the_place_of_a_bad_one(store, make, poison, fresh):
    items = [make(100, seed) for seed in range(3)]
    for item in items[:2]:
        poison(store, item)
    assert store.touch_and_find_missing([items[0][1]]) == {items[0][1]}
    with pytest.raises(MissingError, match=r"the copy of \w+ in pack \w+ is damaged") as caught:
        store.read(items[0][1], items[0][0])
    assert "fsck --full --repair" in caught.value.hint
    store.put(items)
    poison(store, items[2])
    for each in (store, fresh()):
        assert all(each.read(digest, spec) == data for spec, digest, data in items)


def test_another_pack_is_tried_after_a_bad_one(store, make, poison, fresh):
    item = make(4096)
    store.put([item])
    forget(store)
    again = fresh()
    poison(again, item)  # much smaller, and nobody has decoded either of them
    assert again.touch_and_find_missing([item[1]]) == set()
    assert again.read(item[1], item[0]) == item[2]


def test_what_was_written_here_is_not_decoded_to_be_believed(store, make, fresh, decoded):
    items = [make(100, seed) for seed in range(3)]
    store.put(items)
    assert store.touch_and_find_missing(digest for _, digest, _ in items) == set()
    assert fresh().touch_and_find_missing(digest for _, digest, _ in items) == set()
    assert decoded == []


def test_after_the_index_was_lost_only_what_is_asked_for_is_decoded_and_only_once(store, steps, lean, fresh, decoded):
    old, new, other = steps(3)
    store.put([old, other])
    lean(store, new, old)
    assert store.touch_and_find_missing([new[1]]) == set()
    forget(store)
    decoded.clear()
    again = fresh()
    assert again.touch_and_find_missing([new[1]]) == set()
    assert {*map(str, decoded)} == {old[1], new[1]}
    decoded.clear()
    assert again.touch_and_find_missing([new[1]]) == fresh().touch_and_find_missing([new[1], old[1]]) == set()
    assert decoded == []


def test_of_a_store_that_is_borrowed_from_only_what_is_asked_for_is_decoded(store, make, fresh, tmp_path, decoded):
    items = [make(100, seed) for seed in range(3)]
    store.put(items)
    borrower = fresh(store.root, root=tmp_path / "borrower")
    assert borrower.touch_and_find_missing([items[0][1]]) == set()
    assert [str(each) for each in decoded] == [items[0][1]]


def test_a_base_that_was_damaged_is_to_blame_and_not_what_leans_on_it(store, steps, lean, fresh):
    old, new = steps(2)
    store.put([old])
    (damaged,) = packs_of(store, [old[1]])
    name = lean(store, new, old)
    rot(store.pack_path(damaged))
    store.reader.close()
    assert store.touch_and_find_missing([new[1]]) == {new[1]}
    assert (verdicts(store)[damaged, old[1]], verdicts(store)[name, new[1]]) == (Verdict.BAD, Verdict.UNKNOWN)
    # The file is damaged, which says nothing of packs of that name elsewhere.
    assert store.verdicts.bad_entries() == set()
    assert store.verdicts.damaged(str(store.root)) == {damaged}
    assert not store.has_intact(damaged)
    store.put([old])
    assert fresh().touch_and_find_missing([new[1]]) == set()
    assert store.has_intact(damaged)


def test_what_failed_to_be_read_is_decoded_again_before_it_counts(store, make):
    item = make(100)
    store.put([item])
    ((_, path),) = store.pack_files()
    rot(path)
    store.reader.close()
    with pytest.raises(Exception, match=path.name):
        store.read(item[1], item[0])
    assert store.put([item]) > 0
    assert store.read(item[1], item[0]) == item[2]


def test_where_the_index_cannot_be_written_what_was_found_holds_for_this_process(store, make, poison, decoded):
    good, bad = make(100), make(100, 1)
    store.put([good])
    poison(store, bad)
    with store.index.transaction() as db:
        db.execute("UPDATE blobs SET verdict = 0")
    store.index._db.execute("PRAGMA query_only = 1")
    for _ in range(2):
        assert store.touch_and_find_missing([good[1], bad[1]]) == {bad[1]}
        assert len(decoded) == 2
    assert store.read(good[1], good[0]) == good[2]


def test_a_tensor_is_judged_by_the_pack_at_hand_though_its_bases_lean_on_the_same_tensor(store, steps, lean):
    one, two = steps(2)
    store.put([one])
    back = lean(store, two, one)
    round_about = lean(store, one, two)
    assert store.touch_and_find_missing([two[1]]) == set()
    (held,) = [h for h in store.locations([one[1]])[one[1]] if h.pack == round_about]
    judged = store.judge([(one[1], held)])
    assert (list(judged.errors.values()), judged.stranded) == ([None], ())
    assert verdicts(store)[back, two[1]] is verdicts(store)[round_about, one[1]] is Verdict.SOUND


def test_that_a_pack_was_sound_is_remembered_after_it_was_dropped(store, make, decoded):
    item = make(100)
    store.put([item])
    ((_, path),) = store.pack_files()
    data, name = path.read_bytes(), path.name
    store.drop([name])
    (store.root / "come").write_bytes(data)
    store.adopt(name, store.root / "come")
    assert store.touch_and_find_missing([item[1]]) == set()
    assert decoded == []


def test_that_a_pack_was_bad_is_remembered_after_it_was_dropped(store, make, poison, decoded):
    item = make(100)
    name = poison(store, item)
    assert store.touch_and_find_missing([item[1]]) == {item[1]}
    store.drop([name])
    assert poison(store, item) == name
    decoded.clear()
    assert store.touch_and_find_missing([item[1]]) == {item[1]}
    assert decoded == []
    assert store.rejected() == {(name, item[1])}


def test_many_bad_ones_among_many_good_ones_are_reported_apart(store, make, poison):
    items = [make(50 + n, n) for n in range(40)]
    wrong = {items[n][1] for n in (0, 7, 8, 39)}
    store.put([item for item in items if item[1] not in wrong])
    with store.index.transaction() as db:
        db.execute("UPDATE blobs SET verdict = 0")
    for item, value in itertools.product(items, (1, 2)):
        if item[1] in wrong:
            poison(store, item, value)
    assert store.touch_and_find_missing(digest for _, digest, _ in items) == wrong
