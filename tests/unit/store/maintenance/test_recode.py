import os
import time
from itertools import pairwise

import numpy as np
import pytest
from kinds import pairs

from git_theta_ext.errors import CorruptError
from git_theta_ext.interfaces import Fit
from git_theta_ext.model.tensor import TensorSpec, tensor_digest
from git_theta_ext.registry import find_encoding
from git_theta_ext.store.deltas.chains import depths, shallowest, smallest
from git_theta_ext.store.deltas.encode import DeltaHint
from git_theta_ext.store.maintenance import recode
from git_theta_ext.store.maintenance.cheapest import Candidate
from git_theta_ext.store.maintenance.gc import collect, find_garbage, repack
from git_theta_ext.store.maintenance.recode import Recoder
from git_theta_ext.store.packs import writer
from git_theta_ext.store.store import Store

LIMIT = 4

pytestmark = pytest.mark.usefixtures("unbundled")


def line(items):
    """Return candidates for versions of one tensor, each with all earlier ones as parents, the newest first."""
    earlier = []
    for spec, digest, _ in items:
        yield [Candidate(digest, spec, tuple(reversed(earlier)))]
        earlier.append((digest, spec))


def depth_of(store):
    return max(depths(smallest(store.index.all_locations())).values())


def names(store):
    return {path.name for _, path in store.pack_files()}


def collect_all(store, items, limit):
    """Remove the packs that nobody needs."""
    live, later = {digest for _, digest, _ in items}, time.time() + 60
    for name in names(store):
        os.utime(store.pack_path(name), (1000, 1000))
    garbage = find_garbage(store, live, later, depth=limit)
    collect(store, garbage, later)
    repack(store, garbage)


def intact(store, items):
    return all(store.read(digest, spec) == data for spec, digest, data in items)


@pytest.fixture
def item():
    """Return a function that makes an item for the store: (spec, digest, bytes)."""

    def make(spec, data):
        return spec, tensor_digest(spec, data), bytes(data)

    return make


@pytest.mark.parametrize("limit", [0, 1, 4, 12])
@pytest.mark.usefixtures("unbundled")
def test_versions_become_differences_in_chains_of_bounded_depth(store, steps, limit):
    items = steps(16)
    store.put(items)
    advanced = []
    done = Recoder(store, limit).run(line(items), advanced.append)
    assert depth_of(store) <= limit
    assert sum(done.tensors.values()) == (15 if limit else 0)
    assert (done.after < 0.7 * done.before) == bool(limit)
    assert sum(advanced) == sum(spec.nbytes for spec, _, _ in items)
    assert intact(store, items)


@pytest.mark.parametrize("limit", [0, 1, 2, 5])
def test_chains_that_became_too_long_are_shortened_when_everything_is_reconsidered(store, steps, lean, limit):
    items = steps(12)
    store.put(items[:1])
    for old, new in pairwise(items):
        lean(store, new, old)
    Recoder(store, limit).run(line(items))
    collect_all(store, items, limit)
    assert depth_of(store) == 11  # what is stored stays as it is unless asked for
    foreseen = Recoder(store, limit, aggressive=True, dry_run=True).run(line(items))
    assert Recoder(store, limit, aggressive=True).run(line(items)) == foreseen
    collect_all(store, items, limit)
    assert depth_of(store) <= limit
    assert intact(store, items)
    collect_all(store, items, limit)
    assert Recoder(store, limit, aggressive=True).run(line(items)).tensors == {}


def test_a_too_long_chain_of_tiny_tensors_is_shortened_too(store, steps, lean):
    items = steps(6, elements=40)
    store.put(items[:1])
    for old, new in pairwise(items):
        lean(store, new, old)
    Recoder(store, 2, aggressive=True).run(line(items))
    collect_all(store, items, 2)
    assert depth_of(store) <= 2
    assert intact(store, items)


def test_chains_stay_short_when_versions_come_one_by_one(store, steps):
    items = steps(14)
    for count in range(1, 15):
        store.put(items[:count])
        Recoder(store, LIMIT).run(line(items[:count]))
        assert depth_of(store) <= LIMIT
    assert sum(bool(store.locations([d])[d][0].bases or len(store.locations([d])[d]) > 1) for _, d, _ in items) == 13
    assert intact(store, items)


def test_looking_again_changes_nothing(store, steps):
    items = steps(5)
    store.put(items)
    loose = store.index.loose(str(store.root))
    Recoder(store, LIMIT).run(line(items))
    store.index.mark_recoded(str(store.root), loose)
    before = names(store)
    assert Recoder(store, LIMIT).run(line(items)).examined == 0
    assert Recoder(store, LIMIT, aggressive=True).run(line(items)).tensors == {}
    assert names(store) == before


def test_a_dry_run_tells_what_would_happen_and_writes_nothing(store, steps):
    items = steps(5)
    store.put(items)
    before = names(store)
    would = Recoder(store, LIMIT, dry_run=True).run(line(items))
    assert names(store) == before
    assert Recoder(store, LIMIT).run(line(items)) == would


def test_differences_that_save_little_are_not_made(store, make):
    items = [make(4096, 1), make(4096, 2)]
    store.put(items)
    assert Recoder(store, LIMIT).run(line(items)).tensors == {}


def test_tiny_tensors_are_left_alone(store, steps):
    items = steps(3, elements=32)
    store.put(items)
    assert Recoder(store, LIMIT).run(line(items)).examined == 0


def test_parents_that_are_missing_or_of_another_type_are_passed_over(store, steps):
    items = steps(2)
    other = TensorSpec.of("I32", (4096,))
    as_integers = (other, tensor_digest(other, items[0][2]), items[0][2])
    store.put([items[1], as_integers])
    parents = ((items[0][1], items[0][0]), (as_integers[1], other))
    assert Recoder(store, LIMIT).run([[Candidate(items[1][1], items[1][0], parents)]]).tensors == {}


def test_what_an_alternate_holds_is_read_and_left_as_it_is(tmp_path, steps):
    items = steps(3)
    with_old = Store(tmp_path / "lender")
    with_old.put(items[:2])
    with_old.close()
    before = sorted((tmp_path / "lender" / "packs").rglob("*"))
    store = Store(tmp_path / "borrower", [tmp_path / "lender"])
    store.put(items)
    done = Recoder(store, LIMIT).run(line(items))
    assert (done.examined, done.tensors) == (1, {"delta": 1})
    assert sorted((tmp_path / "lender" / "packs").rglob("*")) == before
    assert intact(store, items)
    store.close()


@pytest.mark.parametrize(
    ("kind", "encoding"),
    {"fine-tune BF16": "delta", "low rank F32": "low_rank", "scaled rows F32": "scale", "grown F32": "delta"}.items(),
)
def test_the_encoding_that_fits_is_found(store, item, kind, encoding):
    pair = pairs()[kind]
    old, new = item(pair.old_spec, pair.old), item(pair.new_spec, pair.new)
    store.put([old, new])
    assert Recoder(store, LIMIT).run(line([old, new])).tensors == {encoding: 1}
    assert intact(store, [old, new])


def test_each_low_rank_update_is_found_though_older_versions_have_shorter_chains(store, item):
    spec, rng, items = TensorSpec.of("F32", (128, 128)), np.random.default_rng(1), []
    values = rng.standard_normal((128, 128), np.float32) / 50
    for _ in range(3):
        items.append(item(spec, values.tobytes()))
        values = values + np.float32(1e-3) * (
            rng.standard_normal((128, 4), np.float32) @ rng.standard_normal((4, 128), np.float32)
        )
    store.put(items)
    done = Recoder(store, LIMIT).run(line(items))
    assert done.tensors == {"low_rank": 2}
    assert intact(store, items)
    chosen = smallest(store.index.all_locations())
    assert items[1][1] in chosen[items[2][1]].bases


def test_the_version_that_is_nearest_is_chosen(store, item, steps):
    spec, _, _ = steps(1)[0]
    draw = np.random.default_rng(5)
    first = draw.normal(0, 0.05, 4096).astype("<f4")
    stranger = draw.normal(0, 0.05, 4096).astype("<f4")
    after = first + draw.normal(0, 1e-6, 4096).astype("<f4")
    items = [item(spec, values.tobytes()) for values in (first, stranger, after)]
    store.put(items)
    Recoder(store, LIMIT, aggressive=True).run(line(items))
    held = smallest(store.locations(digest for _, digest, _ in items))
    assert held[items[2][1]].bases in {(items[0][1],), ()} or held[items[0][1]].bases == (items[2][1],)
    assert intact(store, items)


def test_chains_from_two_places_that_lean_the_other_way_round_make_no_circle(tmp_path, store, steps):
    items = steps(8)
    store.put(items)
    Recoder(store, LIMIT).run(line(items))
    other = Store(tmp_path / "other")
    other.put(items)
    Recoder(other, LIMIT).run(line(items[::-1]))
    for _, path in other.pack_files():
        copy = store.root / path.name
        copy.write_bytes(path.read_bytes())
        store.adopt(path.name, copy)
    other.close()
    for aggressive in (False, True):
        Recoder(store, LIMIT, aggressive=aggressive).run(line(items))
        assert set(shallowest(store.index.all_locations())) >= {digest for _, digest, _ in items}
        assert intact(store, items)


def test_a_tensor_never_leans_on_what_leans_on_it(store, steps, lean):
    old, new = steps(2)
    store.put([new])
    lean(store, old, new)
    done = Recoder(store, LIMIT, aggressive=True).run(line([old, new]))
    assert done.tensors == {}
    assert intact(store, [old, new])


@pytest.mark.parametrize("one_by_one", [False, True])
@pytest.mark.usefixtures("unbundled")
def test_versions_that_differ_from_the_first_alone_stay_deltas_of_it(store, item, one_by_one):
    spec, draw = TensorSpec.of("F32", (64, 64)), np.random.default_rng(0)
    first = draw.standard_normal(spec.shape, dtype=np.float32)
    moves = [draw.standard_normal(spec.shape, dtype=np.float32) * np.float32(1e-5) for _ in range(30)]
    items = [item(spec, first.tobytes()), *(item(spec, (first + move).tobytes()) for move in moves)]
    near = [
        [Candidate(digest, spec, tuple((earlier[1], spec) for earlier in reversed(items[max(0, at - 2) : at])))]
        for at, (_, digest, _) in enumerate(items)
    ]
    store.put(items)
    for groups in [[group] for group in near] if one_by_one else [near]:
        looked_at = {digest for (one,) in groups for digest in (one.digest, *(parent for parent, _ in one.parents))}
        Recoder(store, 2, related=looked_at).run(groups)
    chosen = smallest(store.all_locations())
    assert [chosen[digest].bases for _, digest, _ in items[1:]] == [(items[0][1],)] * 30
    assert intact(store, items)


def test_depth_counts_factors_that_lean_on_others(store, steps, item, lean):
    pair = pairs()["low rank F32"]
    old, new = item(pair.old_spec, pair.old), item(pair.new_spec, pair.new)
    draw = np.random.default_rng(0)
    left, right = (draw.normal(0, 0.1, shape).astype("<f4") for shape in ((96, 2), (2, 64)))
    data = (np.frombuffer(old[2], "<f4").reshape(96, 64) + left.astype("f8") @ right).astype("<f4").tobytes()
    new = item(pair.old_spec, data)
    kinds = [TensorSpec.of("F32", factor.shape) for factor in (left, right)]
    factors = [item(kind, factor.tobytes()) for kind, factor in zip(kinds, (left, right), strict=True)]
    fit = Fit({"scale": 1.0, "swap": False}, tuple((spec, data) for spec, _, data in factors))
    adapters = [item(kinds[1], (right + number * 1e-6).astype("<f4").tobytes()) for number in range(1, 5)]
    store.put([*adapters, old, *factors])
    for before, after in pairwise([*adapters, factors[1]]):
        lean(store, after, before)
    store.put([new], hints={new[1]: DeltaHint("low_rank", old[1], old[0], fit)})
    later = item(pair.old_spec, (np.frombuffer(data, "<f4") + np.float32(1e-6)).astype("<f4").tobytes())
    store.put([later])
    assert depth_of(store) == LIMIT + 1
    store.prove([new[1]], smallest)
    assert Recoder(store, LIMIT).run([[Candidate(later[1], later[0], ((new[1], new[0]),))]]).tensors == {"low_rank": 1}
    assert smallest(store.all_locations())[later[1]].bases[0] == old[1]  # not the new tensor, which is too deep
    assert intact(store, [*adapters, *factors, old, new, later])


def test_what_does_not_come_back_as_it_was_stops_recoding_and_is_removed(store, steps, monkeypatch):
    items = steps(3)
    store.put(items)
    before = names(store)
    delta = type(find_encoding("delta"))
    real = delta.encode

    def careless(self, chunk, data):
        return real(self, chunk, memoryview(bytes([data[0] ^ 1]) + data[1:]))

    monkeypatch.setattr(delta, "encode", careless)
    with pytest.raises(CorruptError, match="the encoding delta does not return tensor"):
        Recoder(store, LIMIT).run(line(items))
    assert names(store) == before
    monkeypatch.undo()
    assert intact(store, items)


@pytest.mark.parametrize(("filled", "packs"), [(1 << 20, 1), (1, 7)])
def test_versions_share_a_pack_until_it_is_filled(store, steps, monkeypatch, filled, packs):
    monkeypatch.setattr(recode, "_FILLED", filled)
    items = steps(8)
    store.put(items)
    before = names(store)
    assert Recoder(store, LIMIT).run(line(items)).tensors == {"delta": 7}
    assert len(names(store) - before) == packs
    assert intact(store, items)


def test_packs_of_differences_are_bounded(store, steps, monkeypatch):
    monkeypatch.setattr(writer, "SMALLEST_LIMIT", 1)
    before = [steps(1, seed=seed)[0] for seed in range(3)]
    after = [steps(2, seed=seed)[1] for seed in range(3)]
    store.put([*before, *after])
    count = len(names(store))
    group = [Candidate(new[1], new[0], ((old[1], old[0]),)) for old, new in zip(before, after, strict=True)]
    assert Recoder(store, LIMIT).run([group]).tensors == {"delta": 3}
    assert len(names(store)) == count + 3
    assert intact(store, [*before, *after])
