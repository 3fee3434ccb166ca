import itertools
import os
import shutil
import time

import msgpack
import pytest
from helpers import dense_payload, make_pack, packs_of

from git_theta_ext.store.deltas.encode import DeltaHint, MemorySource, coded_blobs
from git_theta_ext.store.maintenance import gc
from git_theta_ext.store.maintenance.gc import Garbage, collect, find_garbage, repack, wasted
from git_theta_ext.store.packs import writer
from git_theta_ext.store.packs.blobs import dense_blob
from git_theta_ext.store.packs.format import MAGIC, VERSIONS, Entry
from git_theta_ext.store.store import Store
from git_theta_ext.util.files import sha256_of

LONG_AGO = 1000
NEVER = 0.0
LARGE = 1 << 18
"""Elements of a tensor that has a pack of its own; eight tensors of an eighth share one."""


@pytest.fixture(autouse=True)
def _small_packs(monkeypatch):
    monkeypatch.setattr(writer, "SMALLEST_LIMIT", 3 << 19)


def names(store):
    return {path.name for root, path in store.pack_files() if root == store.root}


def disk(store):
    return sum(store.pack_path(name).stat().st_size for name in names(store))


def age(store, *packs):
    for name in packs or names(store):
        os.utime(store.pack_path(name), (LONG_AGO, LONG_AGO))


def digests(*items):
    return {digest for _, digest, _ in items}


def pack_of(store, item):
    (name,) = packs_of(store, [item[1]])
    return name


@pytest.fixture
def now():
    """Return the time as a collection sees it that begins now and knows no grace."""
    return time.time() + 60


def gone(found):
    return {name for name, _ in (*found.redundant, *found.dead)}


def test_what_nobody_names_goes_when_it_is_old(store, make, now):
    named, old, young = (make(LARGE, seed) for seed in range(3))
    store.put([named, old, young])
    age(store, pack_of(store, named), pack_of(store, old))
    found = find_garbage(store, digests(named), now - 3600)
    assert [name for name, _ in found.dead] == [pack_of(store, old)]
    assert found.redundant == ()
    assert found.young == store.pack_path(pack_of(store, young)).stat().st_size - header_bytes(store, young)
    assert collect(store, found, now - 3600) == found.nbytes
    assert store.touch_and_find_missing(digests(named, old, young)) == digests(old)


def header_bytes(store, item):
    return store.reader.header(store.pack_path(pack_of(store, item))).nbytes


def test_everything_that_something_named_leans_on_stays(store, steps, lean, now):
    items = steps(4)
    store.put(items[:1])
    for old, new in itertools.pairwise(items):
        lean(store, new, old)
    age(store)
    assert gone(find_garbage(store, digests(items[-1]), now)) == set()
    assert gone(find_garbage(store, digests(items[1]), now)) == {pack_of_leaning(store, item) for item in items[2:]}


def pack_of_leaning(store, item):
    return store.locations([item[1]])[item[1]][0].pack


def test_everything_that_something_young_leans_on_stays(store, steps, lean, now):
    old, new = steps(2)
    store.put([old])
    age(store)
    lean(store, new, old)
    assert gone(find_garbage(store, set(), now - 3600)) == set()


def test_what_is_held_in_fewer_bytes_elsewhere_goes_however_young_it_is(store, steps, lean):
    old, new = steps(2)
    store.put([old])
    store.put([new])
    dense = pack_of_leaning(store, new)
    small = lean(store, new, old)
    found = find_garbage(store, digests(old, new), NEVER)
    assert [name for name, _ in found.redundant] == [dense]
    gc.wait_for_clock()
    again = find_garbage(store, digests(old, new), NEVER)
    assert collect(store, again, NEVER) > 0
    assert small in names(store)
    assert store.read(new[1], new[0]) == new[2]


def test_a_pack_that_somebody_touched_since_it_was_found_stays(store, make, now):
    item, other = make(LARGE, 1), make(LARGE, 2)
    store.put([item, other])
    age(store)
    found = find_garbage(store, set(), now)
    assert len(found.dead) == 2
    assert store.touch_and_find_missing([item[1]]) == set()
    collect(store, found, now)
    assert store.touch_and_find_missing(digests(item, other)) == digests(other)


@pytest.mark.parametrize("first", range(4))
def test_a_collection_that_was_cut_short_is_finished_by_the_next(store, steps, lean, now, first):
    items = steps(4)
    store.put(items[:1])
    order = [pack_of(store, items[0])]
    order += [lean(store, new, old) for old, new in itertools.pairwise(items)]
    age(store)
    store.drop([order[first]])
    assert store.touch_and_find_missing(digests(*items)) == digests(*items[first:])
    age(store)
    collect(store, find_garbage(store, set(), now), now)
    assert names(store) == set()


def test_only_one_of_two_that_could_each_stand_for_the_other_goes(store, steps, lean, now):
    one, two = steps(2)
    store.put([one])
    store.put([two])
    lean(store, one, two)
    lean(store, two, one)
    age(store)
    collect(store, find_garbage(store, digests(one, two), now), now)
    assert len(names(store)) == 2
    assert store.read(one[1], one[0]) == one[2]
    assert store.read(two[1], two[0]) == two[2]


def test_alternates_are_counted_on_by_nobody_and_never_deleted_from(tmp_path, steps, make, lean, now):
    old, new = steps(2)
    lender = Store(tmp_path / "lender")
    lender.put([old, new, make(LARGE, 7)])
    lean(lender, new, old)
    lender.close()
    before = {path: path.stat().st_mtime for path in (tmp_path / "lender" / "packs").rglob("*")}
    store = Store(tmp_path / "borrower", [tmp_path / "lender"])
    shutil.copytree(tmp_path / "lender" / "packs", tmp_path / "borrower" / "packs")
    store.refresh()
    age(store)
    found = find_garbage(store, digests(old, new), now)
    collect(store, found, now)
    repack(store, found)
    assert before == {path: path.stat().st_mtime for path in (tmp_path / "lender" / "packs").rglob("*")}
    store.close()
    alone = Store(tmp_path / "borrower")
    assert alone.touch_and_find_missing(digests(old, new)) == set()
    alone.close()


def test_what_is_needed_is_copied_out_of_packs_that_are_mostly_waste(store, make, now):
    items = [make(LARGE // 8, seed) for seed in range(8)]
    store.put(items)
    (before,) = names(store)
    age(store)
    size = store.pack_path(before).stat().st_size
    assert repack(store, find_garbage(store, digests(items[3]), now)) == 1
    (after,) = names(store)
    assert store.pack_path(after).stat().st_size < 0.2 * size
    assert store.read(items[3][1], items[3][0]) == items[3][2]
    assert store.touch_and_find_missing(digests(*items)) == digests(*items) - digests(items[3])


def test_what_is_not_named_grows_old_beside_what_is_used(store, make):
    items = [make(LARGE // 8, seed) for seed in range(8)]
    named = digests(*items[:4])
    store.put(items)
    age(store)
    grace = LONG_AGO / 2
    assert find_garbage(store, named, grace).dead == ()
    assert wasted(store, find_garbage(store, named, grace)) == 0
    assert repack(store, find_garbage(store, named, grace)) == 1
    assert repack(store, find_garbage(store, named, grace)) == 0
    (old,) = packs_of(store, digests(*items[4:]))
    (used,) = packs_of(store, named)
    assert old != used
    age(store)
    assert store.touch_and_find_missing(named) == set()
    assert [name for name, _ in find_garbage(store, named, 2 * LONG_AGO).dead] == [old]
    assert store.touch_and_find_missing(digests(*items)) == set()


@pytest.mark.parametrize(("needed", "copied"), [(7, 0), (6, 1)])
def test_packs_that_are_nearly_all_needed_are_left_as_they_are(store, make, now, needed, copied):
    items = [make(LARGE // 8, seed) for seed in range(8)]
    store.put(items)
    age(store)
    size = disk(store)
    waste = wasted(store, find_garbage(store, digests(*items[:needed]), now))
    assert repack(store, find_garbage(store, digests(*items[:needed]), now)) == copied
    assert size - disk(store) == pytest.approx(waste, abs=500)


def test_packs_of_many_tiny_tensors_are_no_waste_for_their_headers(store, make, now):
    items = [make(4, seed) for seed in range(300)]
    store.put(items)
    age(store)
    assert repack(store, find_garbage(store, digests(*items), now)) == 0


def test_many_little_packs_become_one(store, make, now):
    items = [make(50, seed) for seed in range(70)]
    for item in items:
        store.put([item])
    age(store)
    assert repack(store, find_garbage(store, digests(*items), now)) == 70
    assert len(names(store)) == 1
    assert all(store.read(digest, spec) == data for spec, digest, data in items)
    age(store)
    assert repack(store, find_garbage(store, digests(*items), now)) == 0


def test_differences_are_copied_as_they_are(store, steps, make, lean, now):
    old, new = steps(2)
    store.put([old])
    lean(store, new, old)
    for seed in range(70):
        store.put([make(50, seed)])
    age(store)
    repack(store, find_garbage(store, digests(old, new), now))
    held = store.locations([new[1]])[new[1]]
    assert [location.bases for location in held] == [(old[1],)]
    assert store.read(new[1], new[0]) == new[2]


def test_a_pack_that_was_touched_while_it_was_copied_stays_beside_the_copy(store, make, now, monkeypatch):
    items = [make(LARGE // 8, seed) for seed in range(8)]
    store.put(items)
    age(store)
    write = Store.write

    def touched(self, *args, **options):
        self.touch_and_find_missing([items[5][1]])
        return write(self, *args, **options)

    monkeypatch.setattr(Store, "write", touched)
    assert repack(store, find_garbage(store, digests(items[3]), now)) == 0
    assert store.touch_and_find_missing(digests(*items)) == set()


def test_nothing_is_garbage_in_a_store_without_packs(store, now):
    found = find_garbage(store, set(), now)
    assert found == Garbage(seen=found.seen)
    assert collect(store, found, now) == 0
    assert repack(store, found) == 0


def collected(store, live, now):
    store.refresh()
    garbage = find_garbage(store, live, now)
    collect(store, garbage, now)
    repack(store, garbage)


def test_what_leans_on_something_that_is_away_stays_until_it_is_back(tmp_path, steps, make, now):
    (base, new), small = steps(2, elements=1 << 16), make(1000)
    lender = Store(tmp_path / "lender")
    lender.put([base])
    lender.close()
    borrower = Store(tmp_path / "theta", [tmp_path / "lender"])
    blobs = coded_blobs(new[1], DeltaHint("delta", base[1], base[0]), memory(new), memory(base))
    borrower.write([[*blobs, dense_blob(small[1], memory(small))]], loose=False)
    age(borrower)
    (tmp_path / "lender").rename(tmp_path / "away")
    collected(borrower, digests(base, new, small), now)
    (tmp_path / "away").rename(tmp_path / "lender")
    borrower.refresh()
    assert borrower.touch_and_find_missing(digests(new, small)) == set()
    borrower.close()


def memory(item):
    return lambda: MemorySource(item[0], item[2])


def test_a_pack_of_a_newer_version_is_nobodys_garbage(store, make, now):
    store.put([make(100)])
    body = msgpack.packb({"entries": []})
    path = store.root / "made"
    path.write_bytes(MAGIC + (VERSIONS[-1] + 1).to_bytes(4, "little") + len(body).to_bytes(8, "little") + body)
    place = store.pack_path(sha256_of(path))
    place.parent.mkdir(parents=True, exist_ok=True)
    path.rename(place)
    age(store)
    collected(store, set(), now)
    assert names(store) == {place.name}


def test_a_pack_that_the_index_forgot_stays(store, make, now):
    item = make(100)
    store.put([item])
    age(store)
    (name,) = names(store)
    store.index.drop_pack(str(store.root), name)
    collect(store, find_garbage(store, digests(item), now), now)
    assert names(store) == {name}


def test_a_smaller_copy_that_is_damaged_replaces_nothing(store, steps, lean, now):
    base, new = steps(2)
    store.put([base])
    store.put([new])
    path = store.pack_path(lean(store, new, base))
    path.chmod(0o644)
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    data[-40] ^= 255
    path.write_bytes(data)
    age(store)
    store.reader.close()
    fresh = Store(store.root)
    collected(fresh, digests(base, new), now)
    fresh.drop([path.name])
    assert fresh.read(new[1], new[0]) == new[2]
    fresh.close()


def test_a_pack_that_only_the_index_remembers_is_not_counted_on(store, steps, make, now):
    (base, new), small = steps(2, elements=60_000), make(1000)
    store.put([base])
    store.put([new, small])
    before = names(store)
    store.write([coded_blobs(new[1], DeltaHint("delta", base[1], base[0]), memory(new), memory(base))], loose=False)
    (smaller,) = names(store) - before
    store.pack_path(smaller).unlink()
    age(store)
    repack(store, find_garbage(store, digests(base, new, small), now))
    assert store.touch_and_find_missing(digests(base, new, small)) == set()


def test_a_bad_pack_replaces_nothing_and_goes_once_something_better_is_there(store, make, poison, now):
    item, lost = make(4096), make(4096, 1)
    store.put([item])
    good = names(store)
    bad, only = poison(store, item), poison(store, lost)
    age(store)
    collected(store, digests(item, lost), now)
    assert names(store) == good | {only}
    store.put([lost])
    collected(store, digests(item, lost), now)
    assert not names(store) & {bad, only}
    assert all(store.read(digest, spec) == data for spec, digest, data in (item, lost))


def test_after_the_index_was_lost_the_smaller_of_two_is_kept(store, steps, lean, now):
    base, new = steps(2)
    store.put([base])
    store.put([new])
    smaller = lean(store, new, base)
    assert store.touch_and_find_missing(digests(base, new)) == set()
    age(store)
    fresh = Store(store.root)
    with fresh.index.transaction() as db:
        db.execute("UPDATE blobs SET verdict = (stored > 9000)")
    collected(fresh, digests(base, new), now)
    assert names(fresh) == {smaller, pack_of(fresh, base)}
    fresh.close()


def test_a_bad_entry_is_not_copied(store, make, plant, now):
    dead, lost = make(8000), make(4096, 1)
    payloads = [(dead, dense_payload(dead[0], dead[2])), (lost, dense_payload(lost[0], bytes(len(lost[2]))))]
    name, data = make_pack(*((Entry(item[1], item[0], "dense", (len(p),)), p) for item, p in payloads))
    (store.root / "come").write_bytes(data)
    store.adopt(name, store.root / "come")
    age(store)
    assert repack(store, find_garbage(store, digests(lost), now)) == 0
    collected(store, digests(lost), now)
    assert names(store) == {name}
