"""Bundles of which most is not needed are stored again without that, and everything that is needed comes back."""

import contextlib
import os
import time

import pytest
from many_tensors import COUNT, bundle_of, digests, entries, evolution, groups, holds, put, recoder

from git_theta_ext.store.maintenance.cheapest import Candidate
from git_theta_ext.store.maintenance.gc import collect, repack, wasted
from git_theta_ext.store.maintenance.shrink import shrunk_garbage
from git_theta_ext.store.packs.format import GATHERED, PART
from git_theta_ext.store.parts import FEWEST
from git_theta_ext.store.store import Store

LONG_AGO = 1000


@pytest.fixture
def later():
    """Return a time after which every pack counts as old."""
    return time.time() + 60


def age(store):
    for _, path in store.pack_files():
        os.utime(path, (LONG_AGO, LONG_AGO))


def names(items):
    return {digest for _, digest, _ in items}


def size(store):
    return sum(path.stat().st_size for _, path in store.pack_files())


def tidy(store, named, older_than, *, dry_run=False):
    """Do as gc; returns how many bundles were stored again, and the bytes that went, or in a dry run would go."""
    before = size(store)
    garbage, shrinking = shrunk_garbage(store, named, older_than, depth=4, dry_run=dry_run)
    if dry_run:
        return len(shrinking.replaced), garbage.nbytes + wasted(store, garbage) - shrinking.nbytes
    collect(store, garbage, older_than)
    repack(store, garbage)
    store.index.compact()
    return len(shrinking.replaced), before - size(store)


def intact(store, items):
    """Whether tensors can be read by this process, and by one that finds the index lost."""
    with contextlib.closing(Store(store.root, threads=1)) as again:
        return holds(store, [items]) and holds(again, [items])


def tensors(store):
    """Return the tensors that the packs have, each as often as it is stored."""
    found = []
    for entry in entries(store):
        if entry.stored:
            found += [entry.digest] if entry.bundle is None else [digest for _, _, digest in entry.bundle.members()]
    return sorted(found)


@pytest.mark.parametrize("needed", [1, FEWEST - 1, FEWEST, COUNT // 2 - 2])
def test_few_needed_tensors_of_a_bundle_are_stored_again_without_the_others(store, later, needed):
    (items,) = evolution()
    store.put(items)
    age(store)
    named = names(items[:needed])
    count, foreseen = tidy(store, named, later, dry_run=True)
    assert len(entries(store)) == count == 1
    before = size(store)
    assert tidy(store, named, later) == (1, pytest.approx(foreseen, abs=3000))
    assert size(store) < before * needed / COUNT + 3000
    assert tensors(store) == sorted(named)
    assert len(entries(store)) == (1 if needed >= FEWEST else needed)
    assert intact(store, items[:needed])
    assert store.touch_and_find_missing(names(items)) == names(items[needed:])
    age(store)
    assert tidy(store, named, later) == (0, 0)


def test_a_bundle_of_which_most_is_needed_stays_as_it_is(store, later):
    (items,) = evolution()
    store.put(items)
    age(store)
    before = sorted(path.name for _, path in store.pack_files())
    assert tidy(store, names(items[: COUNT // 2 + 2]), later) == (0, 0)
    assert sorted(path.name for _, path in store.pack_files()) == before


def test_what_is_too_young_to_be_removed_grows_old_on_its_own(store):
    (items,) = evolution()
    store.put(items)
    named, others = names(items[:20]), names(items[20:])
    age(store)
    assert tidy(store, named, LONG_AGO - 1)[0] == 1
    assert tensors(store) == sorted(names(items))
    assert intact(store, items)
    assert len(list(store.pack_files())) == 2
    assert tidy(store, named, LONG_AGO - 1) == (0, 0)
    age(store)
    assert store.touch_and_find_missing(named) == set()  # as a commit of the same tensors would
    garbage, shrinking = shrunk_garbage(store, named, 2 * LONG_AGO)
    assert not shrinking.replaced
    collect(store, garbage, 2 * LONG_AGO)
    assert store.touch_and_find_missing(named | others) == others
    assert intact(store, items[:20])


def test_a_pack_that_is_used_meanwhile_stays_next_to_the_copy(store, later, monkeypatch):
    (items,) = evolution()
    store.put(items)
    age(store)
    write = Store.write

    def used(self, *args, **options):
        self.touch_and_find_missing([items[-1][1]])
        return write(self, *args, **options)

    monkeypatch.setattr(Store, "write", used)
    tidy(store, names(items[:5]), later)
    assert store.touch_and_find_missing(names(items)) == set()
    assert intact(store, items)
    monkeypatch.undo()
    age(store)
    named = names([*items[:5], items[-1]])
    tidy(store, named, later)
    assert tensors(store) == sorted(named)
    assert intact(store, [*items[:5], items[-1]])


def test_a_collection_that_was_killed_before_it_removed_anything_is_finished_by_the_next(store, later):
    (items,) = evolution()
    store.put(items)
    age(store)
    named = names(items[:20])
    shrunk_garbage(store, named, later)
    age(store)
    assert tidy(store, named, later)[0] == 0
    assert tensors(store) == sorted(named)
    assert intact(store, items[:20])


@pytest.mark.parametrize("kept", [5, 20])
def test_deltas_of_parts_stay_readable(store, later, kept):
    old, new = evolution(range(3, 10))
    put(store, [old, new])
    recoder(store, [old, new]).run(groups([old, new]))
    age(store)
    tidy(store, digests([old, new]), later)
    assert PART in {entry.encoding for entry in entries(store)}
    age(store)
    needed = [*new[5 : 5 + kept]]
    assert tidy(store, names(needed), later)[0] == 1
    assert intact(store, needed)
    # What the new pack of small deltas has besides is not worth copying it.
    assert set(tensors(store)) - names(new[3:5]) == names(needed) | names(old[5:10])
    age(store)
    assert tidy(store, names(needed), later) == (0, 0)


@pytest.mark.parametrize(
    ("changes", "needed", "sources"),
    [
        ([range(35, COUNT)], range(35, COUNT), 0),  # what is gathered is all that remains of a bundle
        ([range(30), range(25, 45)], range(25, 45), 2),
    ],
)
def test_gathered_parents_are_gathered_from_what_remains(store, later, changes, needed, sources):
    versions = evolution(*changes)
    put(store, versions)
    recoder(store, versions).run(groups(versions))
    age(store)
    tidy(store, digests(versions), later)
    assert GATHERED in {entry.encoding for entry in entries(store)}
    items = [versions[-1][number] for number in needed]
    age(store)
    count, foreseen = tidy(store, names(items), later, dry_run=True)
    done, freed = tidy(store, names(items), later)
    assert done == count > 0
    assert freed == pytest.approx(foreseen, abs=3000)
    assert foreseen > 0
    assert intact(store, items)
    made = [entry for entry in entries(store) if entry.encoding == GATHERED]
    assert max((len(entry.bases) for entry in made), default=0) >= sources
    age(store)
    assert tidy(store, names(items), later) == (0, 0)
    assert intact(store, items)


def test_what_is_gathered_from_two_models_is_gathered_from_what_remains_of_each(store, later):
    models = [evolution([], seed=seed)[0] for seed in range(2)]
    merged = evolution(range(10, 25), seed=0)[1][10:25] + evolution(range(20, 45), seed=1)[1][20:45]
    put(store, [*models, merged])
    parents = [*models[0][10:25], *models[1][20:45]]
    group = [
        Candidate(digest, spec, ((old, spec),)) for (spec, digest, _), (_, old, _) in zip(merged, parents, strict=True)
    ]
    recoder(store, [*models, merged]).run([group])
    age(store)
    tidy(store, digests([*models, merged]), later)
    assert sorted(entry.encoding for entry in entries(store)) == ["delta", "dense", "dense", GATHERED]
    age(store)
    named = names(merged)
    count, foreseen = tidy(store, named, later, dry_run=True)
    assert tidy(store, named, later) == (2, pytest.approx(foreseen, abs=3000))
    assert count == 2
    assert set(tensors(store)) == named | names(parents)
    assert intact(store, [*merged, *parents])
    age(store)
    assert tidy(store, named, later) == (0, 0)
    assert intact(store, merged)


def test_a_bundle_that_is_a_parent_stays_whole(store, later):
    old, new = evolution(range(COUNT))
    put(store, [old, new])
    recoder(store, [old, new]).run(groups([old, new]))
    age(store)
    named = names(new) | names(old[:3])
    assert tidy(store, named, later)[0] == 0
    assert intact(store, new)


def test_a_delta_that_takes_less_than_its_needed_tensors_would_stays(store, later):
    old, new = evolution(range(COUNT))
    put(store, [old, new])
    recoder(store, [old, new]).run(groups([old, new]))
    age(store)
    tidy(store, digests([old, new]), later)
    delta = next(entry for entry in entries(store) if entry.bases)
    few = [one for number, one in enumerate(new) if number % 4 == 0]
    assert delta.stored < sum(spec.nbytes for spec, _, _ in few) * 2
    age(store)
    assert tidy(store, names(few), later)[0] == 0
    assert intact(store, few)


def test_of_two_bundles_with_the_same_needed_tensors_the_smaller_one_is_kept(store, later):
    for seed in range(5):  # without regard to the size, it would be either
        (items,) = evolution(seed=seed)
        few = items[:40]
        store.put(items)
        ((_, path),) = store.pack_files()
        data = path.read_bytes()
        path.unlink()
        store.put(few)
        path.write_bytes(data)
        store.refresh()
        assert len(entries(store)) == 2
        age(store)
        assert tidy(store, names(few), later)[0] == 0
        (entry,) = entries(store)
        assert entry.digest == bundle_of(few).digest
        assert intact(store, few)
        age(store)
        tidy(store, set(), later)
