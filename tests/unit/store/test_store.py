import errno
import gc
import io
import math
import os
import shutil
import sqlite3
import threading
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from itertools import chain, pairwise
from pathlib import Path
from weakref import ref

import numpy as np
import pytest
from helpers import packs_of

from git_theta_ext.errors import CorruptError, MissingError, StoreError
from git_theta_ext.interfaces import Fit
from git_theta_ext.model.tensor import TensorSpec, skeleton_spec, tensor_digest
from git_theta_ext.registry import find_encoding
from git_theta_ext.store import inventory, read_ahead
from git_theta_ext.store.deltas.chains import depths, shallowest
from git_theta_ext.store.deltas.encode import DeltaHint, MemorySource, coded_blobs
from git_theta_ext.store.maintenance.copying import whole_again
from git_theta_ext.store.packs import finishing, writer
from git_theta_ext.store.packs.reader import read_pack_header
from git_theta_ext.store.packs.writer import divided
from git_theta_ext.store.store import Store
from git_theta_ext.util.files import sha256_of


def packs(store):
    return sorted(path for _, path in store.pack_files())


def damage(path, at=-1):
    path.chmod(0o644)
    data = bytearray(path.read_bytes())
    data[at] ^= 1
    path.write_bytes(data)


def test_what_was_put_comes_back(store, make):
    items = [
        make(10),
        make(1 << 20, 1),
        make(0, 2),
        (skeleton_spec(3), tensor_digest(skeleton_spec(3), b"abc"), b"abc"),
    ]
    advanced = []
    assert store.put(items, advanced.append) > 0
    assert sum(advanced) == sum(spec.nbytes for spec, _, _ in items)
    for spec, digest, data in items:
        assert store.read(digest, spec) == data
        assert b"".join(map(bytes, store.stream(digest, spec))) == data
    assert store.touch_and_find_missing([digest for _, digest, _ in items]) == set()


def test_what_is_there_is_not_stored_again(store, make):
    items = [make(1 << 17), make(1 << 17)]
    assert store.put(items) > 0
    assert len(packs(store)) == 1
    assert store.put(items) == 0


@pytest.mark.usefixtures("unbundled")
def test_tensors_share_packs_up_to_a_limit(store, make, monkeypatch):
    monkeypatch.setattr(writer, "SMALLEST_LIMIT", 1 << 20)
    store.put([make(1 << 17, 1), *(make(100, seed) for seed in range(2, 52)), make(1 << 18, 60), make(1 << 19, 61)])
    assert sorted(len(read_pack_header(path).entries) for path in packs(store)) == [1, 1, 51]


def test_a_skeleton_has_a_pack_of_its_own(store, make):
    spec = skeleton_spec(3)
    store.put([make(100), (spec, tensor_digest(spec, b"abc"), b"abc"), make(100, 1)])
    assert sorted(len(read_pack_header(path).entries) for path in packs(store)) == [1, 2]


@pytest.mark.parametrize(
    ("sizes", "packs", "largest"),
    [
        ([10 << 20] * 30, 10, 30 << 20),  # a model of 300 MiB
        ([280 << 10] * 300, 3, 1 << 25),
        ([8 << 10] * 10_000, 3, 1 << 25),
        ([1 << 20] * 16_384, 65, 1 << 28),  # as large as 16 GiB: packs of 256 MiB
        ([1 << 30, 1, 1 << 30], 3, 1 << 30),
        ([4] * 1_000_000, 31, 1 << 25),  # headers count
        ([], 0, 0),
    ],
)
def test_a_model_is_few_packs(sizes, packs, largest):
    made = divided([(size, size) for size in sizes])
    assert len(made) == packs
    assert max(map(sum, made), default=0) <= largest
    assert list(chain.from_iterable(made)) == sizes


@pytest.mark.parametrize("sizes", [[1 << 20] * 40, [1 << 20] * 33, [3 << 18] * 100, [1 << 20] * 70])
def test_packs_of_a_model_have_about_the_same_size(sizes):
    made = list(map(sum, divided([(size, size) for size in sizes])))
    assert len(made) == math.ceil(sum(sizes) / (1 << 25))
    assert max(made) <= 1.15 * sum(made) / len(made)


def test_values_are_not_needed_when_they_are_encoded(store, make):
    class Values(bytearray):
        """Values whose memory is watched."""

    spec, digest, data = make(1 << 20)
    values = Values(data)
    seen = ref(values)
    finish = store.begin_put([(spec, digest, values)])
    del values
    gc.collect()
    assert seen() is None
    assert finish() > 0
    assert store.read(digest, spec) == data
    assert list((store.root / "tmp").iterdir()) == []


def test_packs_that_are_not_finished_leave_no_file(store, make, monkeypatch):
    monkeypatch.setattr(finishing, "finish_packs", lambda *_: [])
    finish = store.begin_put([make(1 << 20)])
    assert list((store.root / "tmp").iterdir()) != []
    del finish
    gc.collect()
    assert list((store.root / "tmp").iterdir()) == []
    assert packs(store) == []


def test_packs_are_named_by_their_bytes_and_read_only(store, make):
    store.put([make(100_000)])
    (path,) = packs(store)
    assert sha256_of(path) == path.name
    assert path.parent.name == path.name[:2]
    assert path.stat().st_mode & 0o222 == 0
    assert list((store.root / "tmp").iterdir()) == []


def test_the_same_tensor_gives_the_same_pack(tmp_path, make):
    names = []
    for folder in ("one", "two"):
        store = Store(tmp_path / folder)
        store.put([make(1 << 20)])
        names.append([path.name for path in packs(store)])
        store.close()
    assert names[0] == names[1]


def test_a_missing_tensor_is_named(store, make):
    spec, digest, _ = make(5)
    assert store.touch_and_find_missing([digest]) == {digest}
    with pytest.raises(MissingError, match=digest):
        store.read(digest, spec)


def test_packs_written_by_another_process_are_found(store, make, tmp_path):
    item = make(1000)
    assert store.touch_and_find_missing([item[1]])
    other = Store(store.root)
    other.put([item])
    other.close()
    assert store.read(item[1], item[0]) == item[2]


def test_a_lost_index_is_rebuilt_from_the_packs(tmp_path, make):
    item = make(1000)
    store = Store(tmp_path)
    store.put([item])
    store.close()
    for path in tmp_path.glob("index.sqlite3*"):
        path.unlink()
    store = Store(tmp_path)
    assert store.read(item[1], item[0]) == item[2]
    store.close()


@pytest.mark.parametrize("content", [b"not a database at all" * 100, b""])
def test_a_damaged_index_is_made_anew(tmp_path, make, content):
    item = make(1000)
    store = Store(tmp_path)
    store.put([item])
    store.close()
    (tmp_path / "index.sqlite3").write_bytes(content)
    store = Store(tmp_path)
    assert store.read(item[1], item[0]) == item[2]
    store.close()


def test_an_index_of_another_version_is_made_anew(tmp_path, make):
    item = make(1000)
    store = Store(tmp_path)
    store.put([item])
    store.close()
    database = sqlite3.connect(tmp_path / "index.sqlite3")
    database.execute("PRAGMA user_version = 999")
    database.close()
    store = Store(tmp_path)
    assert store.read(item[1], item[0]) == item[2]
    store.close()


def test_a_pack_that_vanished_is_noticed_and_stored_again(store, make):
    item = make(1000)
    store.put([item])
    for path in packs(store):
        path.unlink()
    assert store.touch_and_find_missing([item[1]]) == {item[1]}
    assert store.put([item]) > 0
    assert store.read(item[1], item[0]) == item[2]


def test_a_pack_that_another_process_recodes_right_after_it_was_written_is_no_error(store, make, monkeypatch):
    monkeypatch.setattr(store, "drop_replaced", lambda: store.drop([path.name for _, path in store.pack_files()]))
    assert store.put([make(10)]) == 0


def test_a_dedupe_hit_makes_the_pack_young_again(store, make):
    item = make(1000)
    store.put([item])
    (path,) = packs(store)
    os.utime(path, (1, 1))
    store.put([item])
    assert path.stat().st_mtime > 1000


def test_alternates_are_read_and_not_copied(tmp_path, make):
    item, own = make(1000), make(1000, 1)
    lender = Store(tmp_path / "lender")
    lender.put([item])
    lender.close()
    store = Store(tmp_path / "borrower", [tmp_path / "lender"])
    assert store.put([item, own]) > 0
    assert store.read(item[1], item[0]) == item[2]
    assert len([path for path in packs(store) if path.is_relative_to(tmp_path / "borrower")]) == 1
    store.close()


def test_a_flipped_bit_in_a_chunk_is_an_error_that_names_the_pack(store, make):
    spec, digest, data = make(1 << 20)
    store.put([(spec, digest, data)])
    (path,) = packs(store)
    damage(path, -100)
    with pytest.raises(CorruptError, match=path.name):
        store.read(digest, spec)


def test_a_pack_cut_short_is_an_error(store, make):
    spec, digest, data = make(1 << 20)
    store.put([(spec, digest, data)])
    (path,) = packs(store)
    path.chmod(0o644)
    os.truncate(path, path.stat().st_size - 10)
    with pytest.raises(CorruptError, match="truncated"):
        store.read(digest, spec)


def test_a_digest_asked_for_as_another_type_is_an_error(store, make):
    spec, digest, data = make(8)
    store.put([(spec, digest, data)])
    with pytest.raises(CorruptError, match=r"F32 \[8\]"):
        store.read(digest, TensorSpec.of("I32", (8,)))


def test_a_wrong_digest_is_found_when_read(store, make):
    spec, digest, _ = make(8)
    store.put([(spec, digest, bytes(32))])
    with pytest.raises(CorruptError, match="does not match its digest"):
        store.read(digest, spec)


@pytest.fixture
def write_instead(monkeypatch):
    """Return a function that sets what happens if bytes are written to an unfinished pack."""
    real = Path.open

    def set_to(write):
        kind = type("Raw", (io.FileIO,), {"write": write})

        def opened(path, mode="r", *args, **kwargs):
            return io.BufferedWriter(kind(path, "x")) if mode == "xb" else real(path, mode, *args, **kwargs)

        monkeypatch.setattr(Path, "open", opened)

    return set_to


def test_a_full_disk_stores_nothing_half_and_says_so(store, make, monkeypatch, write_instead):
    def full(*_):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    write_instead(full)
    item = make(1 << 20)
    with pytest.raises(StoreError, match="No space left") as caught:
        store.put([item, make(10, 1)])
    assert "free some space" in caught.value.hint
    assert packs(store) == []
    assert list((store.root / "tmp").iterdir()) == []
    monkeypatch.undo()
    store.put([item])
    assert store.read(item[1], item[0]) == item[2]


def test_a_write_that_is_cut_short_goes_on(store, make, write_instead):
    write_instead(lambda file, data: io.FileIO.write(file, data[:1000]))
    item = make(1 << 18)
    store.put([item])
    assert store.read(item[1], item[0]) == item[2]


def test_what_a_crash_left_is_cleared_away_after_a_day(store, make):
    store.put([make(10)])
    old, young, backup = (store.root / "tmp" / name for name in ("old", "young", "old.backup"))
    for path in (old, young, backup):
        path.write_bytes(b"half")
    os.utime(old, (1, 1))
    os.utime(backup, (1, 1))  # a link to a file of the user has its time
    store.put([make(10, 1)])
    assert (old.exists(), young.exists(), backup.exists()) == (False, True, True)


def test_two_stores_put_the_same_at_the_same_time(tmp_path, make):
    items = [make(50_000, seed) for seed in range(6)]

    def run(_):
        store = Store(tmp_path)
        store.put(items)
        found = all(store.read(digest, spec) == data for spec, digest, data in items)
        store.close()
        return found

    with ThreadPoolExecutor(4) as executor:
        assert all(executor.map(run, range(4)))


def test_adopt_takes_a_pack_and_refuses_what_is_none(store, make, tmp_path):
    item = make(1000)
    source = Store(tmp_path / "source")
    source.put([item])
    (_, path), *_ = source.pack_files()
    source.close()
    for wrong in ("0" * 64, sha256_of(shutil.copy(__file__, tmp_path / "text"))):
        with pytest.raises(CorruptError):
            store.adopt(wrong, tmp_path / "text")
    store.adopt(path.name, shutil.copy(path, tmp_path / "incoming"))
    assert store.read(item[1], item[0]) == item[2]
    assert packs_of(store, [item[1]]) == {path.name}


def test_bases_are_decoded_first_and_counted_among_the_packs_needed(store, steps, lean):
    old, middle, new = steps(3)
    store.put([old])
    lean(store, middle, old)
    lean(store, new, middle)
    assert store.read(new[1], new[0]) == new[2]
    assert len(packs_of(store, [new[1]])) == 3


def test_tensors_that_lean_on_each_other_and_nothing_else_are_missing(store, steps, lean):
    one, two = steps(2)
    lean(store, one, two)
    lean(store, two, one)
    assert store.touch_and_find_missing([one[1], two[1]]) == {one[1], two[1]}
    with pytest.raises(MissingError, match=one[1]):
        store.read(one[1], one[0])


def test_tensors_that_lean_on_each_other_are_read_by_the_way_that_leads_out(store, steps, lean):
    one, two = steps(2)
    lean(store, one, two)
    lean(store, two, one)
    store.put([one])
    assert store.read(one[1], one[0]) == one[2]
    assert store.read(two[1], two[0]) == two[2]


def test_a_tensor_whose_base_is_missing_is_missing_and_stored_again(store, steps, lean):
    old, new = steps(2)
    lean(store, new, old)
    assert store.touch_and_find_missing([new[1]]) == {new[1]}
    assert store.put([new]) > 0
    assert store.read(new[1], new[0]) == new[2]


def test_asking_for_a_tensor_makes_all_that_it_leans_on_young_again(store, steps, lean):
    old, middle, new = steps(3)
    store.put([old])
    lean(store, middle, old)
    lean(store, new, middle)
    for path in packs(store):
        os.utime(path, (1, 1))
    assert store.touch_and_find_missing([new[1]]) == set()
    assert all(path.stat().st_mtime > 1000 for path in packs(store))


def test_a_store_on_a_read_only_file_system_is_read(store, make, monkeypatch):
    item = make(1000)
    store.put([item])

    def refuse(*_):
        raise OSError(errno.EROFS, os.strerror(errno.EROFS))

    monkeypatch.setattr(inventory.os, "utime", refuse)
    assert store.touch_and_find_missing([item[1]]) == set()
    assert store.read(item[1], item[0]) == item[2]


def test_dropping_takes_what_is_old_and_leaves_what_was_touched(store, make):
    items = [make(1000, seed) for seed in range(3)]
    for item in items:
        store.put([item])
    names = {digest: min(packs_of(store, [digest])) for _, digest, _ in items}
    for name in names.values():
        os.utime(store.pack_path(name), (100, 100))
    assert store.touch_and_find_missing([items[1][1]]) == set()
    gone = store.drop(names.values(), older_than=200)
    assert sorted(gone) == sorted(name for digest, name in names.items() if digest != items[1][1])
    assert store.touch_and_find_missing(digest for _, digest, _ in items) == {items[0][1], items[2][1]}


def test_dropping_what_is_gone_forgets_it(store, make):
    store.put([make(1000)])
    (path,) = packs(store)
    path.unlink()
    assert store.drop([path.name], older_than=0) == [path.name]
    assert store.index.packs() == set()


def test_a_pack_that_is_dropped_while_it_is_read_is_replaced_by_another_that_holds_the_same(store, steps, lean):
    old, new = steps(2, elements=(1 << 19) + 4096)
    store.put([old])
    store.put([new])
    dense = packs_of(store, [new[1]])
    pieces = store.read_ahead([(new[1], new[0])])
    read = bytes(next(pieces).data)
    other = Store(store.root)
    hint = DeltaHint("delta", old[1], old[0])
    blobs = coded_blobs(new[1], hint, lambda: MemorySource(new[0], new[2]), lambda: MemorySource(old[0], old[2]))
    other.write([blobs], loose=False)
    other.drop(dense)
    other.close()
    store.reader.close()
    assert read + b"".join(bytes(piece.data) for piece in pieces) == new[2]
    assert store.read(new[1], new[0]) == new[2]


class Contended(list):
    """A list of which other threads take the last item before a caller does."""

    def pop(self):
        super().pop()
        return super().pop()


def test_tensors_are_read_while_other_threads_take_free_memory(store, make, monkeypatch):
    items = [make(5000 + number) for number in range(6)]
    store.put(items)
    tasks = partial(read_ahead._Tasks, buffers=Contended([memoryview(bytearray(1))]))
    monkeypatch.setattr(read_ahead, "_Tasks", tasks)
    monkeypatch.setattr(read_ahead, "TOGETHER", 1)
    pieces = list(store.read_ahead([(digest, spec) for spec, digest, _ in items]))
    assert [pieces[number].group for number in range(6)] == list(range(6))


def test_an_unwritable_folder_is_read_through_an_index_in_memory(tmp_path, make, monkeypatch):
    item = make(1000)
    store = Store(tmp_path)
    store.put([item])
    store.close()
    real = sqlite3.connect

    def connect(path, **options):
        if path != ":memory:":
            raise sqlite3.OperationalError("unable to open database file")
        return real(path, **options)

    monkeypatch.setattr(sqlite3, "connect", connect)
    store = Store(tmp_path)
    assert store.read(item[1], item[0]) == item[2]
    store.close()


def stored_as(store, item):
    """Return the encodings that hold a tensor."""
    return {
        entry.encoding for path in packs(store) for entry in read_pack_header(path).entries if entry.digest == item[1]
    }


def test_a_hint_is_followed_where_that_takes_fewer_bytes(store, steps):
    old, new = steps(2)
    store.put([old])
    dense = store.put([steps(1, seed=1)[0]])
    assert store.put([new], hints={new[1]: DeltaHint("delta", old[1], old[0])}) < 0.8 * dense
    assert stored_as(store, new) == {"delta"}
    assert store.read(new[1], new[0]) == new[2]


def test_a_hint_is_not_followed_where_it_saves_nothing(store, make):
    old, new = make(4096), make(4096, 1)
    store.put([old])
    store.put([new], hints={new[1]: DeltaHint("delta", old[1], old[0])})
    assert stored_as(store, new) == {"dense"}


def test_a_hint_whose_parent_is_not_here_is_not_followed(store, steps):
    old, new = steps(2)
    store.put([new], hints={new[1]: DeltaHint("delta", old[1], old[0])})
    assert stored_as(store, new) == {"dense"}
    assert store.read(new[1], new[0]) == new[2]


def test_hints_do_not_make_chains_ever_deeper(store, steps):
    items = steps(12)
    store.put(items[:1])
    for old, new in pairwise(items):
        store.put([new], hints={new[1]: DeltaHint("delta", old[1], old[0])})
    chosen = shallowest(store.locations(digest for _, digest, _ in items))
    assert max(depths(chosen).values()) <= 8
    assert all(store.read(digest, spec) == data for spec, digest, data in items)


@pytest.fixture
def adapted():
    """Return parent and result of a LoRA with its factors: (spec, digest, bytes) twice, and the fit."""
    draw = np.random.default_rng(0)
    rows, columns, rank = 96, 128, 2
    left, right = (draw.normal(0, 0.1, shape).astype("<f4") for shape in ((rows, rank), (rank, columns)))
    old = draw.normal(0, 0.05, (rows, columns)).astype("<f4")
    new = (old + left.astype("f8") @ right).astype("<f4")
    fit = Fit(
        {"scale": 1.0, "swap": False},
        tuple((TensorSpec.of("F32", factor.shape), factor.tobytes()) for factor in (left, right)),
    )
    spec = TensorSpec.of("F32", old.shape)
    return *((spec, tensor_digest(spec, values.tobytes()), values.tobytes()) for values in (old, new)), fit


def test_factors_are_stored_beside_what_leans_on_them(store, adapted):
    old, new, fit = adapted
    store.put([old])
    store.put([new], hints={new[1]: DeltaHint("low_rank", old[1], old[0], fit)})
    assert stored_as(store, new) == {"low_rank"}
    assert store.read(new[1], new[0]) == new[2]
    for spec, data in fit.tensors:
        assert store.read(tensor_digest(spec, data), spec) == data


def test_factors_that_are_stored_already_are_not_stored_again(store, adapted):
    old, new, fit = adapted
    factors = [(spec, tensor_digest(spec, data), data) for spec, data in fit.tensors]
    store.put([old, factors[0]])
    store.put([new, factors[1]], hints={new[1]: DeltaHint("low_rank", old[1], old[0], fit)})
    entries = [entry.digest for path in packs(store) for entry in read_pack_header(path).entries]
    assert sorted(entries) == sorted({old[1], new[1], *(digest for _, digest, _ in factors)})
    assert store.read(new[1], new[0]) == new[2]


def test_an_encoding_that_does_not_give_back_what_it_took_is_found_at_once(store, steps, monkeypatch):
    old, new = steps(2)
    store.put([old])
    before = packs(store)
    delta = type(find_encoding("delta"))
    real = delta.encode

    def careless(self, chunk, data):
        return real(self, chunk, memoryview(bytes([data[0] ^ 1]) + data[1:]))

    monkeypatch.setattr(delta, "encode", careless)
    with pytest.raises(CorruptError, match="does not match its digest"):
        store.put([new], hints={new[1]: DeltaHint("delta", old[1], old[0])})
    assert packs(store) == before
    monkeypatch.undo()
    assert store.touch_and_find_missing([new[1]]) == {new[1]}
    store.put([new])
    assert store.read(new[1], new[0]) == new[2]


def test_a_pack_that_is_a_dangling_link_is_not_there(store, make):
    item = make(100)
    store.put([item])
    (path,) = packs(store)
    path.rename(store.root / "elsewhere")
    path.symlink_to(store.root / "unmounted")
    fresh = Store(store.root)
    assert fresh.touch_and_find_missing([item[1]]) == {item[1]}
    fresh.close()


def test_an_index_that_is_damaged_behind_its_first_page_is_made_anew(store, make):
    items = [make(64, seed) for seed in range(400)]
    store.put(items)
    store.close()
    path = store.root / "index.sqlite3"
    data = bytearray(path.read_bytes())
    assert len(data) > 1 << 14
    data[4096:] = bytes(b ^ 0x5A for b in data[4096:])
    path.write_bytes(data)
    fresh = Store(store.root)
    assert fresh.touch_and_find_missing(digest for _, digest, _ in items) == set()
    fresh.close()


def test_a_tensor_that_is_recoded_while_it_is_looked_up_is_found(store, steps, lean, monkeypatch):
    old, new = steps(2)
    store.put([old])
    before = [lean(store, new, old), *packs_of(store, [old[1]])]
    store.refresh()
    store._refreshed = store.index.renewed
    other, look_up, threads = Store(store.root), store._look_up, []

    def recode():
        other.write([[whole_again(other, new[1])]], loose=False)
        other.drop(before)

    def slow_look_up(digests):
        found = look_up(digests)
        if not threads:
            threads.append(threading.Thread(target=recode))
            threads[0].start()
            threads[0].join(1)
        return found

    monkeypatch.setattr(store, "_look_up", slow_look_up)
    assert new[1] in shallowest(store.locations([new[1]]))
    threads[0].join()
    assert store.read(new[1], new[0]) == new[2]
    other.close()
