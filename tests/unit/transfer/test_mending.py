"""Repairs that are repeated, cut off, or find less than everything."""

import numpy as np
import pytest

from git_theta_ext.errors import MissingError
from git_theta_ext.model.tensor import TensorSpec, tensor_digest
from git_theta_ext.store.deltas.encode import DeltaHint, MemorySource, coded_blobs
from git_theta_ext.store.maintenance.fsck import check_packs
from git_theta_ext.store.packs.finishing import pack_path
from git_theta_ext.store.store import Store
from git_theta_ext.transfer import repair as mending
from git_theta_ext.transfer.remote_index import OpenedRemote
from git_theta_ext.transfer.repair import QUARANTINE, plan_repair, repair


@pytest.fixture
def fresh(tmp_path):
    """Return a function that opens the store as another process would."""
    opened = []

    def again():
        opened.append(Store(tmp_path / "theta", threads=2))
        return opened[-1]

    yield again
    for store in opened:
        store.close()


def item(values: np.ndarray):
    spec = TensorSpec.of("F32", values.shape)
    return spec, tensor_digest(spec, values.data), values.tobytes()


def make(elements, seed=0):
    return item(np.random.default_rng(seed).standard_normal(elements).astype("<f4"))


def base_and_next(elements=60000):
    draw = np.random.default_rng(0)
    values = draw.normal(0, 0.05, elements).astype("<f4")
    return item(values), item(values + draw.normal(0, 1e-5, elements).astype("<f4"))


def specs(*items) -> dict[str, TensorSpec]:
    return {digest: spec for spec, digest, _ in items}


def damage(path, at) -> bytes:
    """Spoil a few bytes, and return what the file now holds."""
    path.chmod(0o644)
    data = bytearray(path.read_bytes())
    data[at : at + 4] = bytes(byte ^ 0xA5 for byte in data[at : at + 4])
    path.write_bytes(data)
    return bytes(data)


def mend(store, named, places=()):
    bad = {problem.pack.rsplit("/", 1)[1] for problem in check_packs(store)}
    return repair(store, places, named, plan_repair(store, places, named, bad), lambda _: {})


def put_difference(store, parent, changed) -> None:
    spec, digest, data = changed
    hint, old = DeltaHint("delta", parent[1], parent[0]), MemorySource(parent[0], parent[2])
    store.write([coded_blobs(digest, hint, lambda: MemorySource(spec, data), lambda: old)], loose=False)


def only_pack(store):
    ((_, path),) = store.pack_files()
    return path


def test_a_second_repair_keeps_what_the_first_left_in_quarantine(fresh):
    base, new = base_and_next()
    small, later = make(1000), make(2000, 5)
    store = fresh()
    store.put([base, small])
    path = only_pack(store)
    put_difference(store, base, new)
    spoiled = damage(path, path.stat().st_size // 2)
    named = specs(base, new, small)
    assert mend(store, named).quarantined == (path.name,)
    aside = pack_path(store.root / QUARANTINE, path.name)
    assert aside.read_bytes() == spoiled

    store = fresh()
    before = {found for _, found in store.pack_files()}
    store.put([later])
    (other,) = {found for _, found in store.pack_files()} - before
    damage(other, 0)
    assert mend(fresh(), specs(base, new, small)).removed == (other.name,)
    assert aside.read_bytes() == spoiled


def test_packs_of_one_name_lie_in_quarantine_beside_each_other(fresh):
    items = [make(1000, 1), make(1000, 2)]
    kept = []
    for _ in range(2):
        store = fresh()
        store.put(items)
        path = next(found for _, found in store.pack_files() if found.stat().st_size > 5000)
        sound = path.read_bytes()
        kept.append(damage(path, len(sound) - 30))
        assert mend(store, specs(*items)).quarantined == (path.name,)
        for _, left in list(store.pack_files()):
            store.drop([left.name])
    found = sorted((store.root / QUARANTINE / "packs").glob("*/*"))
    assert [place.name for place in found] == [path.name, f"{path.name}.1"]
    assert [place.read_bytes() for place in found] == kept


def test_a_repair_that_was_cut_off_is_continued_by_the_next(fresh, monkeypatch):
    items = [make(1000, seed) for seed in range(20)]
    store = fresh()
    store.put(items)
    damage(only_pack(store), -30)
    with monkeypatch.context() as patch:
        patch.setattr(mending, "salvage", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
        with pytest.raises(KeyboardInterrupt):
            mend(store, specs(*items))
    assert fresh().touch_and_find_missing(specs(*items)) == set(specs(*items))
    done = mend(fresh(), specs(*items))
    assert done.lost == {items[-1][1]}
    assert done.saved == set(specs(*items[:-1]))
    assert fresh().touch_and_find_missing(specs(*items)) == done.lost


def test_a_pack_that_something_lost_leans_on_is_not_removed_though_nothing_names_what_it_holds(fresh):
    base, new = base_and_next()
    store = fresh()
    store.put([base])
    path = only_pack(store)
    put_difference(store, base, new)
    spoiled = damage(path, path.stat().st_size // 2)
    done = mend(store, specs(new))
    assert (done.lost, done.removed) == ({new[1]}, ())
    assert path.read_bytes() == spoiled


def test_what_came_and_does_not_decode_counts_as_lost(fresh, monkeypatch):
    spec, digest, data = make(1000)
    store = fresh()
    store.put([(spec, digest, data)])
    path = only_pack(store)
    damage(path, -30)

    def bring(store, *_):
        store.put([(spec, digest, bytes(len(data)))])
        raise MissingError("only nearly")

    monkeypatch.setattr(mending, "fetch", bring)
    done = repair(
        store,
        [OpenedRemote("a place", "", None)],
        specs((spec, digest, data)),
        mending.RepairPlan((path.name,), frozenset({digest}), frozenset()),
        lambda _: {},
    )
    assert (done.fetched, done.lost, done.removed) == (set(), {digest}, ())
    assert [problem.kind for problem in done.problems] == ["corrupt"]
