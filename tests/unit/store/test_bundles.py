"""Many small tensors that are stored as one come back one by one, whatever happens to the store."""

import contextlib
import random
import shutil
import sqlite3
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from helpers import dense_payload

from git_theta_ext.errors import ChangedError, CorruptError, MissingError
from git_theta_ext.model.bundle import Bundle
from git_theta_ext.model.tensor import TensorSpec, skeleton_spec, tensor_digest
from git_theta_ext.store.bundled import LARGEST, SMALL
from git_theta_ext.store.deltas.decode import StoredSource
from git_theta_ext.store.deltas.encode import DeltaHint
from git_theta_ext.store.maintenance.copying import renamed
from git_theta_ext.store.maintenance.fsck import check_packs, check_tensors, stored_specs
from git_theta_ext.store.maintenance.gc import collect, find_garbage
from git_theta_ext.store.packs.checked import FileSource
from git_theta_ext.store.packs.format import GATHERED, PART, Entry
from git_theta_ext.store.packs.reader import PackReader, read_pack_header
from git_theta_ext.store.parts import FEWEST, stored_as
from git_theta_ext.store.store import Store
from git_theta_ext.transfer.repair import plan_repair, repair
from git_theta_ext.util.file_bytes import open_bytes
from git_theta_ext.util.files import sha256_of

GOLDEN = Path(__file__).parents[2] / "golden" / "bundles"
SPEC = TensorSpec.of("F32", (3, 5))


def item(values, name="F32"):
    spec = TensorSpec.of(name, values.shape)
    return spec, tensor_digest(spec, values.data), values.tobytes()


def small(count, seed=0, shape=SPEC.shape):
    values = np.random.default_rng(seed).standard_normal((count, *shape)).astype("<f4")
    return [item(value) for value in values]


def bundle_of(items):
    return Bundle.of([(spec, digest) for spec, digest, _ in items])


def entries(store):
    return [entry for _, path in store.pack_files() for entry in read_pack_header(path).entries]


def intact(store, items):
    return all(store.read(digest, spec) == data for spec, digest, data in items)


def names_of(items):
    return {digest for _, digest, _ in items}


def damage(path, at):
    path.chmod(0o644)
    data = bytearray(path.read_bytes())
    data[at] ^= 0xA5
    path.write_bytes(data)


@pytest.fixture
def again(store):
    """Return a function that opens the store as another process would."""
    with contextlib.ExitStack() as opened:
        yield lambda *alternates: opened.enter_context(contextlib.closing(Store(store.root, alternates, 2)))


def test_many_small_tensors_are_one_entry_and_come_back(store, again):
    items = small(200)
    assert store.put(items) > 0
    (entry,) = entries(store)
    assert (entry.digest, entry.encoding) == (bundle_of(items).digest, "dense")
    for opened in (store, again()):
        assert opened.touch_and_find_missing(names_of(items)) == set()
        assert intact(opened, items)
        assert opened.stored_as(names_of(items)) == dict.fromkeys(names_of(items), entry.digest)
        assert opened.put(items) == 0


def test_tensors_of_a_bundle_are_read_in_any_order_in_groups_and_by_their_chunks(again, store):
    items, others = small(100), small(100, 1)
    store.put([*items, *others])
    drawn = random.Random(0).sample([*items, *others], 200)
    pieces = again().read_ahead([(digest, spec) for spec, digest, _ in drawn])
    assert [bytes(piece.data) for piece in pieces] == [data for _, _, data in drawn]
    groups = [((one[1], one[0]), (two[1], two[0])) for one, two in zip(items, others[::-1], strict=True)]
    aligned = [piece.chunks for piece in again().read_aligned(groups) if piece.chunks]
    assert [tuple(map(bytes, chunks)) for chunks in aligned] == [
        (one[2], two[2]) for one, two in zip(items, others[::-1], strict=True)
    ]
    (piece,) = again().read_chunks(items[7][1], SPEC, [0])
    assert bytes(piece.data) == items[7][2]
    assert b"".join(map(bytes, again().stream(items[8][1], SPEC))) == items[8][2]


def test_threads_read_one_store(again, store):
    versions = [small(40, seed) for seed in range(20)]  # more bundles than are kept decoded
    for items in versions:
        store.put(items)
    drawn = random.Random(0).sample([one for items in versions for one in items], 400)
    opened = again()
    with ThreadPoolExecutor(4) as executor:
        assert all(executor.map(lambda one: opened.read(one[1], one[0]) == one[2], drawn))


def test_sources_of_the_same_bundle_decode_it_once(store, monkeypatch):
    items = small(40)
    store.put(items)
    bundle = bundle_of(items)
    read: list[str] = []
    chunk = PackReader.chunk
    monkeypatch.setattr(PackReader, "chunk", lambda *args: read.append(args[2].digest) or chunk(*args))
    blobs = store.blobs({bundle.digest})
    for _ in range(2):
        source = StoredSource(store.decoder, blobs, bundle.digest)
        assert bytes(source.read()) == b"".join(data for _, _, data in items)
        assert bytes(source.read(7, 90)) == b"".join(data for _, _, data in items)[7:90]
    assert read == [bundle.digest]


@pytest.mark.parametrize("count", [1, FEWEST - 1, FEWEST, FEWEST + 1])
def test_few_tensors_have_entries_of_their_own(store, count):
    items = small(count)
    store.put(items)
    assert len(entries(store)) == (count if count < FEWEST else 1)
    assert intact(store, items)


def test_a_bundle_has_tensors_of_one_type_that_are_small_and_not_empty(store):
    draw = np.random.default_rng(0)
    kinds = {"I32": "<i4", "U8": "u1", "F16": "<f2"}
    made = {
        name: [item(draw.integers(0, 200, 9).astype(kind), name) for _ in range(FEWEST)] for name, kind in kinds.items()
    }
    few = [item(draw.integers(0, 200, 9).astype("<i2"), "I16") for _ in range(FEWEST - 1)]
    at_the_limit, above = small(1, 1, (SMALL // 4,)), small(1, 2, (SMALL // 4 + 1,))
    empty = item(np.empty((0, 3), "<f4"))
    floats = [*small(FEWEST), *at_the_limit]
    skeleton = (skeleton_spec(9), tensor_digest(skeleton_spec(9), b"skeleton!"), b"skeleton!")
    items = [*floats, *above, empty, *few, *made["I32"], *made["U8"], *made["F16"], skeleton]
    random.Random(0).shuffle(items)
    store.put(items)
    bundles = {entry.bundle.digest for entry in entries(store) if entry.bundle}
    in_order = {name: [one for one in items if one[0].dtype.name == name] for name in ("I32", "U8", "F16", "F32")}
    in_order["F32"] = [one for one in in_order["F32"] if 0 < one[0].nbytes <= SMALL]
    assert bundles == {bundle_of(alike).digest for alike in in_order.values()}
    assert len(entries(store)) == 4 + len(few) + 3
    assert intact(store, items)


@pytest.mark.parametrize(("name", "shape", "nbytes"), [("F4", (5, 6), 15), ("F6_E3M2", (4, 2), 6), ("BOOL", (7,), 7)])
def test_elements_of_less_than_a_byte_and_truth_values_are_bundled(store, name, shape, nbytes):
    spec = TensorSpec.of(name, shape)
    drawn = np.random.default_rng(0).integers(0, 2, (50, nbytes), np.uint8)
    items = [(spec, tensor_digest(spec, data.data), data.tobytes()) for data in drawn]
    store.put(items)
    assert len(entries(store)) == 1
    assert intact(store, items)


@pytest.mark.parametrize("name", ["F32", "U8"])
def test_a_bundle_is_at_most_a_mebibyte_and_a_chunk(store, name):
    spec = TensorSpec.of(name, (SMALL // 4,))
    drawn = np.random.default_rng(0).integers(0, 4, (70, spec.nbytes), np.uint8)
    items = [(spec, tensor_digest(spec, data.data), data.tobytes()) for data in drawn]
    store.put(items)
    sizes = [entry.spec.nbytes for entry in entries(store)]
    most = min(LARGEST, spec.chunk_bytes)
    assert max(sizes) == most
    assert len(sizes) == -(-sum(len(data) for _, _, data in items) // most)
    assert intact(store, items)


def test_the_same_tensor_twice_is_in_a_bundle_once(store):
    items = small(40)
    store.put([*items, *items[::-1], items[0]])
    (entry,) = entries(store)
    assert entry.digest == bundle_of(items).digest
    store.put([*small(40, 1), *items])  # what is there already is not stored again
    assert sorted(entry.spec.elements for entry in entries(store)) == [40 * SPEC.elements] * 2


def test_tensors_with_hints_are_stored_alone_as_deltas_of_parts_of_bundles(store, again, steps):
    made = [steps(2, elements=4096, seed=seed) for seed in range(FEWEST)]
    old, new = [one for one, _ in made], [two for _, two in made]
    store.put(old)
    store.put(new, hints={two[1]: DeltaHint("delta", one[1], one[0]) for one, two in made})
    held = {entry.digest: entry for entry in entries(store)}
    for one, two in made:
        assert held[two[1]].bases == (one[1],)
        assert (held[one[1]].encoding, held[one[1]].stored) == (PART, 0)
    assert intact(again(), [*old, *new])
    lost = again()
    lost.close()
    for path in store.root.glob("index.sqlite3*"):
        path.unlink()
    assert intact(again(), [*old, *new])


@pytest.mark.parametrize("change", ["a tensor", "truncated"])
def test_a_file_that_changes_while_it_is_read_is_an_error_that_names_the_parameter(store, tmp_path, change):
    items = small(64)
    path = tmp_path / "model"
    path.write_bytes(b"head" + b"".join(data for _, _, data in items))
    file = open_bytes(path)
    sources = [FileSource(SPEC, file, 4 + number * SPEC.nbytes, f"layer.{number}") for number in range(64)]
    if change == "truncated":
        path.write_bytes(path.read_bytes()[:-1])
    else:
        damage(path, 4 + 7 * SPEC.nbytes)
    values = [(spec, digest, source) for (spec, digest, _), source in zip(items, sources, strict=True)]
    with pytest.raises(ChangedError, match="'layer.7'" if change == "a tensor" else "model"):
        store.put(values)
    assert list(store.pack_files()) == []
    assert store.touch_and_find_missing(names_of(items)) == names_of(items)


def test_tensors_of_a_file_are_bundled_wherever_they_are_in_it(store, tmp_path):
    items = small(64)
    path = tmp_path / "model"
    path.write_bytes(b"".join(data for _, _, data in items[::-1]))
    file = open_bytes(path)
    store.put(
        [
            (spec, digest, FileSource(spec, file, (63 - number) * spec.nbytes, str(number)))
            for number, (spec, digest, _) in enumerate(items)
        ]
    )
    assert [entry.digest for entry in entries(store)] == [bundle_of(items).digest]
    assert intact(store, items)


def test_a_lost_index_is_built_again(store, again):
    items = small(64)
    store.put(items)
    store.close()
    for path in store.root.glob("index.sqlite3*"):
        path.unlink()
    opened = again()
    opened.refresh()
    assert opened.touch_and_find_missing(names_of(items)) == set()
    assert intact(opened, items)


def test_an_index_without_bundles_is_upgraded_and_keeps_its_verdicts(store, again, make):
    lone = make(100, 5)
    store.put([lone])
    store.close()
    with contextlib.closing(sqlite3.connect(store.root / "index.sqlite3")) as db:
        db.executescript("DROP TABLE bundles; DROP TABLE members; DROP TABLE more_members; PRAGMA user_version = 3")
    opened = again()
    (location,) = opened.index.locations([lone[1]])[lone[1]]
    assert location.verdict.name == "SOUND"
    items = small(64)
    opened.put(items)
    assert intact(opened, [*items, lone])
    assert intact(again(), [*items, lone])


def test_bundles_of_alternates_are_read_and_not_copied(store, tmp_path):
    items = small(64)
    with contextlib.closing(Store(tmp_path / "lender", threads=1)) as lender:
        lender.put(items)
    with contextlib.closing(Store(tmp_path / "borrower", [tmp_path / "lender"], threads=1)) as borrower:
        assert borrower.put(items) == 0
        assert intact(borrower, items)
        assert borrower.put([*items[:20], *small(40, 1)]) > 0
        assert [path for root, path in borrower.pack_files() if root == borrower.root] != []
        assert intact(borrower, [*items, *small(40, 1)])


def test_a_damaged_bundle_is_stored_again_and_found_by_fsck(store, again):
    items = small(64)
    store.put(items)
    ((_, path),) = store.pack_files()
    damage(path, -20)
    assert [problem.pack for problem in check_packs(again())] == [str(path)]
    opened = again()
    problems = dict(check_tensors(opened, stored_specs(opened)))
    assert set(problems) == {bundle_of(items).digest}
    assert opened.touch_and_find_missing(names_of(items)) == names_of(items)
    with pytest.raises(MissingError, match="damaged"):
        opened.read(items[0][1], SPEC)
    opened.put(items)
    assert intact(opened, items)
    assert intact(again(), items)


def test_a_pack_that_is_repaired_in_its_place_is_read_anew(store, again):
    items = small(64)
    store.put(items)
    ((_, path),) = store.pack_files()
    sound = path.read_bytes()
    damage(path, -20)
    opened = again()
    with contextlib.suppress(CorruptError, MissingError):
        for spec, digest, _ in items:
            opened.read(digest, spec)
    path.write_bytes(sound)
    opened.reader.close()
    opened.put(items)
    assert intact(opened, items)


def test_only_the_damaged_tensor_of_a_bundle_is_lost_in_a_repair(store, again):
    values = np.frombuffer(np.random.default_rng(0).bytes(64 * 60), np.uint8).reshape(64, 60)  # not compressed
    items = [item(value, "U8") for value in values]
    store.put(items)
    ((_, path),) = store.pack_files()
    damage(path, path.stat().st_size - 64 * 60 + 20 * 60 + 3)
    opened = again()
    named = {digest: spec for spec, digest, _ in items}
    done = repair(opened, (), named, plan_repair(opened, (), named, {path.name}), lambda _: {})
    assert done.lost == {items[20][1]}
    assert done.saved == set(named) - done.lost
    rest = [*items[:20], *items[21:]]
    assert intact(again(), rest)
    assert again().touch_and_find_missing(named) == done.lost


def plant_bundle(plant, store, items, data=None, claimed=None):
    """Give a store a dense bundle that says to have some tensors, with the bytes of these or others."""
    bundle = bundle_of(items)
    payload = dense_payload(bundle.spec, b"".join(value for _, _, value in items) if data is None else data)
    entry = Entry(bundle.digest, bundle.spec, "dense", (len(payload),), bundle=claimed or bundle)
    return plant(store, entry, payload)


def test_a_bundle_whose_bytes_are_not_its_tensors_is_no_copy_of_any(store, plant):
    items = small(40)
    data = b"".join(value for _, _, value in items)
    plant_bundle(plant, store, items, bytes(4) + data[4:])
    assert store.touch_and_find_missing(names_of(items)) == names_of(items)
    with pytest.raises((CorruptError, MissingError)):
        store.read(items[5][1], SPEC)
    store.put(items)
    assert intact(store, items)


def test_a_header_that_claims_other_tensors_is_refused(store, plant):
    items, others = small(40), small(40, 1)
    with pytest.raises(CorruptError, match="bundle"):
        plant_bundle(plant, store, items, claimed=bundle_of(others))


@pytest.mark.parametrize("start", [-SPEC.nbytes, 4, SPEC.nbytes, 39 * SPEC.nbytes + 1, 1 << 60, "0", None, 1.0, True])
def test_a_wrong_part_of_a_bundle_is_not_the_tensor(store, plant, start):
    items = small(40)
    lone = small(1, 7)[0]
    store.put(items)
    plant(store, Entry(lone[1], SPEC, PART, (), bases=(bundle_of(items).digest,), params={"start": start}))
    assert store.touch_and_find_missing([lone[1]]) == {lone[1]}
    assert intact(store, items)
    store.put([lone])
    assert intact(store, [lone])


def test_a_part_of_no_or_two_bundles_or_of_itself_is_not_the_tensor(store, plant):
    items, others, lone = small(40), small(40, 1), small(1, 7)[0]
    store.put(items)
    store.put(others)
    bundles = bundle_of(items).digest, bundle_of(others).digest
    for bases in [(), bundles, (lone[1],), ("a" * 64,)]:
        plant(store, Entry(lone[1], SPEC, PART, (), bases=bases, params={"start": 0}))
    assert store.touch_and_find_missing([lone[1]]) == {lone[1]}
    assert intact(store, [*items, *others])


def gathered(items, bases):
    bundle = bundle_of(items)
    return Entry(bundle.digest, bundle.spec, GATHERED, (), bases=tuple(bases), bundle=bundle)


def test_a_bundle_is_gathered_from_bundles_and_tensors(store, plant, again):
    one, two, lone = small(40), small(40, 1), small(1, 2)[0]
    for items in (one, two, [lone]):
        store.put(items)
    mixed = [*one[::2], lone, *two[:5], *one[1::2]]
    plant(store, gathered(mixed, [bundle_of(one).digest, bundle_of(two).digest, lone[1]]))
    opened = again()
    opened.refresh()
    bundle = bundle_of(mixed)
    assert opened.touch_and_find_missing([bundle.digest]) == set()
    assert opened.read(bundle.digest, bundle.spec) == b"".join(data for _, _, data in mixed)


@pytest.mark.parametrize("lack", ["a source", "a base that lists it", "any base"])
def test_a_gathered_bundle_without_a_source_holds_nothing(store, plant, lack):
    one, two = small(40), small(40, 1)
    store.put(one)
    if lack != "a source":
        store.put(two)
    mixed = [*one[:30], *two[:5]]
    bases = [bundle_of(one).digest, bundle_of(two).digest]
    plant(store, gathered(mixed, {"a source": bases, "a base that lists it": bases[:1], "any base": []}[lack]))
    assert store.touch_and_find_missing([bundle_of(mixed).digest]) == {bundle_of(mixed).digest}
    assert intact(store, one)
    assert store.touch_and_find_missing([two[0][1]]) == ({two[0][1]} if lack == "a source" else set())


def test_bundles_that_are_gathered_from_each_other_hold_nothing(store, plant):
    items = small(40)
    shuffled = items[::-1]
    one, two = bundle_of(items).digest, bundle_of(shuffled).digest
    plant(store, gathered(items, [two]))
    plant(store, gathered(shuffled, [one]))
    plant(store, gathered(items, [one]))
    assert store.touch_and_find_missing(names_of(items)) == names_of(items)
    with pytest.raises((CorruptError, MissingError)):
        store.read(items[0][1], SPEC)
    store.put(items)
    assert intact(store, items)
    assert store.touch_and_find_missing([one, two]) == set()


def test_a_gathered_bundle_of_too_large_a_base_is_refused(store, plant):
    (large,) = small(1, 3, (1 << 20,))
    items = small(40)
    store.put([large])
    store.put(items)
    plant(store, gathered(items, [bundle_of(items).digest, large[1]]))
    assert intact(store, items)
    plant(store, Entry(small(1, 9)[0][1], SPEC, PART, (), bases=(large[1],), params={"start": 0}))
    assert store.touch_and_find_missing([small(1, 9)[0][1]]) == {small(1, 9)[0][1]}


def test_packs_with_bundles_decode_for_ever(store, tmp_path):
    for path in GOLDEN.glob("*.pack"):
        copied = tmp_path / path.name
        shutil.copy(path, copied)
        store.root.mkdir(exist_ok=True)
        store.adopt(sha256_of(copied), copied)
    assert {entry.encoding for entry in entries(store)} == {"dense", "delta", PART, GATHERED}
    data = (GOLDEN / "tensors").read_bytes()
    spec = TensorSpec.of("F32", (128,))
    tensors = [data[at : at + spec.nbytes] for at in range(0, len(data), spec.nbytes)]
    items = [(spec, tensor_digest(spec, value), value) for value in tensors]
    assert len(items) == 87
    assert store.touch_and_find_missing(names_of(items)) == set()
    assert intact(store, items)


@pytest.fixture
def borrowed(store, tmp_path):
    """Return tensors that are bundled here, and a delta of one of them that came from a store without bundles."""
    shape = (64, 64)
    items = small(FEWEST, shape=shape)
    spec, parent, data = items[3]
    changed = (np.frombuffer(data, "<f4") * np.float32(1 + 2**-12)).reshape(shape)
    delta = item(changed)
    with contextlib.closing(Store(tmp_path / "other")) as other:
        other.put([items[3]])
        other.put([delta], hints={delta[1]: DeltaHint("delta", parent, spec)})
        (path,) = [path for _, path in other.pack_files() if read_pack_header(path).entries[0].bases]
        shutil.copy(path, tmp_path / "came")
        store.put(items)
        store.adopt(path.name, tmp_path / "came")
    return items, delta


def test_a_delta_of_a_tensor_that_is_only_in_a_bundle_is_read_and_keeps_the_bundle(store, again, borrowed):
    _, delta = borrowed
    assert store.touch_and_find_missing({delta[1]}) == set()
    now = time.time() + 100
    collect(store, find_garbage(store, store.with_bundles({delta[1]}), now), now)
    assert intact(again(), [delta])


def test_a_delta_of_a_tensor_that_is_only_in_a_bundle_is_copied_if_the_bundle_is_intact(store, again, borrowed):
    _, delta = borrowed
    (old,) = [path for _, path in store.pack_files() if delta[1] in {e.digest for e in read_pack_header(path).entries}]
    (new,) = renamed(again(), {old.name})
    old.unlink()
    assert intact(again(), [delta])
    (pack,) = [path for _, path in store.pack_files() if read_pack_header(path).entries[0].bundle]
    damage(pack, pack.stat().st_size - 9)
    with pytest.raises(CorruptError, match=pack.name):
        renamed(again(), {new})
    assert {path.name for _, path in store.pack_files()} == {new, pack.name}


@pytest.mark.parametrize("verified", [False, True])
def test_a_delta_of_a_tensor_in_a_bundle_that_is_damaged_is_missing(store, again, borrowed, verified):
    items, delta = borrowed
    opened = again()
    if verified:
        assert not opened.judge_again({bundle_of(items).digest}).bad()
    (pack,) = [path for _, path in store.pack_files() if read_pack_header(path).entries[0].bundle]
    (entry,) = read_pack_header(pack).entries
    pack.chmod(0o644)
    pack.write_bytes(pack.read_bytes()[: entry.offset].ljust(pack.stat().st_size, b"\x55"))
    assert opened.touch_and_find_missing({delta[1]}) == {delta[1]}


@pytest.mark.parametrize("held", [{}, {"a": "x"}, {"a": "x", "b": "y"}], ids=["none", "one", "all"])
def test_tensors_in_no_bundle_are_stored_as_themselves(held):
    bundles = {digest: (held[digest],) if digest in held else () for digest in "ab"}
    chosen = {group: group[0] for group in bundles.values() if group}
    assert stored_as(bundles, chosen) == {"a": held.get("a", "a"), "b": held.get("b", "b")}
