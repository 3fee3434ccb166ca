"""Bundles become deltas of bundles of the versions before, and every version comes back."""

import contextlib
import os
import time
from functools import partial

import pytest
from many_tensors import COUNT, bundle_of, digests, entries, evolution, groups, holds, put, recoder
from pickled import PickledWorkers

from git_theta_ext.store.deltas.chains import depths, smallest
from git_theta_ext.store.exchange import SharedStore
from git_theta_ext.store.maintenance.gc import collect, find_garbage, repack, wasted
from git_theta_ext.store.maintenance.write_jobs import write_plans_in_jobs
from git_theta_ext.store.packs.format import GATHERED, PART
from git_theta_ext.store.parts import FEWEST
from git_theta_ext.store.store import Store
from git_theta_ext.store.work_area import WorkArea


def tidy(store, versions, depth=4):
    """Remove what is not needed, as gc does; returns the number of bytes."""
    for _, path in store.pack_files():
        os.utime(path, (1000, 1000))
    later = time.time() + 60
    garbage = find_garbage(store, store.with_bundles(digests(versions)), later, depth=depth)
    freed = collect(store, garbage, later)
    repack(store, garbage)
    store.index.compact()
    return freed


def depth_of(store, versions, depth):
    chosen = smallest(store.index.all_locations(), depth=depth)
    counted = depths(chosen)
    return max(counted[digest] for digest in store.stored_as(digests(versions)).values())


def stored(store):
    return sum(entry.stored for entry in entries(store))


def kinds(store):
    return sorted(entry.encoding for entry in entries(store))


def intact(store, versions):
    """Whether every tensor can be read, by this process and by one that has to read the packs anew."""
    with contextlib.closing(Store(store.root, threads=1)) as again:
        return holds(store, versions) and holds(again, versions)


@pytest.fixture
def one_by_one(tmp_path, monkeypatch):
    """Return a function that returns the stored bytes of versions whose tensors are not bundled."""

    def measure(versions):
        with monkeypatch.context() as patch, contextlib.closing(Store(tmp_path / "alone", threads=1)) as store:
            patch.setattr("git_theta_ext.store.store.FEWEST", 1 << 20)
            put(store, versions)
            recoder(store, versions).run(groups(versions))
            tidy(store, versions)
            return stored(store)

    return measure


def test_a_bundle_of_the_same_tensors_becomes_a_delta_of_the_earlier_one(store, one_by_one):
    versions = evolution(range(COUNT), range(COUNT))
    put(store, versions)
    done = recoder(store, versions).run(groups(versions))
    assert done.tensors == {"delta": 2 * COUNT}
    tidy(store, versions)
    held = {entry.digest: entry for entry in entries(store)}
    first, second, third = (bundle_of(items).digest for items in versions)
    assert (held[first].encoding, held[first].bases) == ("dense", ())
    assert held[second].bases == (first,)
    assert held[third].bases[0] in {first, second}
    assert len(held) == 3  # the dense ones of later versions are gone
    assert stored(store) <= 1.03 * one_by_one(versions)
    assert intact(store, versions)


def test_many_changed_tensors_become_a_delta_of_a_gathered_bundle(store, one_by_one):
    versions = evolution(range(FEWEST + 5), range(20, COUNT), range(0, COUNT, 1))
    put(store, versions)
    recoder(store, versions).run(groups(versions))
    tidy(store, versions)
    assert kinds(store).count("dense") == 1
    made = [entry for entry in entries(store) if entry.encoding == GATHERED]
    assert made
    assert all(entry.stored == 0 and entry.bundle.digest == entry.digest for entry in made)
    assert stored(store) <= 1.03 * one_by_one(versions)
    assert intact(store, versions)


def test_few_changed_tensors_become_deltas_of_parts_of_bundles(store, one_by_one):
    versions = evolution(range(3, 10), [3, 50])
    put(store, versions)
    recoder(store, versions).run(groups(versions))
    tidy(store, versions)
    first = bundle_of(versions[0]).digest
    held = {entry.digest: entry for entry in entries(store)}
    for number in range(3, 10):
        old, new = versions[0][number][1], versions[1][number][1]
        assert held[new].bases == (old,)
        assert (held[old].encoding, held[old].bases, held[old].stored) == (PART, (first,), 0)
    assert stored(store) <= 1.03 * one_by_one(versions)
    assert intact(store, versions)


@pytest.mark.parametrize("depth", [0, 1, 2, 5])
def test_chains_of_bundles_and_parts_are_not_deeper_than_allowed(store, depth):
    versions = evolution(range(COUNT), [1, 2], range(40), [1, 50], range(COUNT), range(35), [2])
    put(store, versions)
    recoder(store, versions, depth).run(groups(versions))
    tidy(store, versions, depth)
    assert depth_of(store, versions, depth) <= depth
    assert intact(store, versions)


def test_gathering_parents_does_not_make_chains_deeper(store):
    windows = [range(start, start + 25) for start in (0, 13, 26, 4, 17, 30, 8)]
    versions = evolution(*windows)
    put(store, versions)
    recoder(store, versions, len(windows)).run(groups(versions))
    tidy(store, versions, len(windows))
    assert kinds(store).count("dense") == 1
    assert kinds(store).count("delta") == len(windows)
    assert kinds(store).count(GATHERED) > 2
    assert intact(store, versions)


def test_everything_can_be_reconsidered_with_other_depths(store):
    versions = evolution(range(COUNT), [1, 2], range(40), [1, 50], range(COUNT), range(35), [2])
    put(store, versions)
    for depth in (5, 1, 3):
        foreseen = recoder(store, versions, depth, aggressive=True, dry_run=True).run(groups(versions))
        assert recoder(store, versions, depth, aggressive=True).run(groups(versions)) == foreseen
        tidy(store, versions, depth)
        assert depth_of(store, versions, depth) <= depth
        assert intact(store, versions)


def test_a_dry_run_foresees_what_is_written_and_freed(store):
    versions = evolution(range(COUNT), range(40), [1, 2])
    put(store, versions)
    for _, path in store.pack_files():
        os.utime(path, (1000, 1000))
    planned = recoder(store, versions, dry_run=True)
    foreseen = planned.run(groups(versions))
    later = time.time() + 60
    garbage = find_garbage(store, store.with_bundles(digests(versions)), later, planned.planned, 4)
    before = kinds(store)
    assert garbage.nbytes + wasted(store, garbage) > 0
    assert kinds(store) == before
    assert recoder(store, versions).run(groups(versions)) == foreseen
    freed = tidy(store, versions)
    assert abs(freed - garbage.nbytes) <= 0.05 * freed


def test_versions_that_nobody_names_any_more_go_and_the_others_stay_readable(store):
    versions = evolution(range(COUNT), range(40), [1, 2], range(10, COUNT))
    put(store, versions)
    recoder(store, versions).run(groups(versions))
    tidy(store, versions)
    for left in (versions[1:], versions[3:], versions[4:], []):
        tidy(store, left)
        assert intact(store, left)
    assert entries(store) == []
    assert store.index.rows("SELECT * FROM members") == []
    put(store, versions)
    assert intact(store, versions)


def test_bundles_are_recoded_in_jobs_as_they_are_here(store, tmp_path):
    versions = evolution(range(COUNT), range(5, 45), [3, 50])
    with contextlib.closing(Store(tmp_path / "jobs", threads=2)) as jobs:
        for each in (store, jobs):
            put(each, versions)
        expected = recoder(store, versions).run(groups(versions))
        area = WorkArea(jobs, "gc")
        write = partial(write_plans_in_jobs, PickledWorkers(2), SharedStore(jobs, area, loose=False))
        assert recoder(jobs, versions, write=write).run(groups(versions)) == expected
        area.close(remove=True)
        assert {path.name for _, path in jobs.pack_files()} == {path.name for _, path in store.pack_files()}
        assert {"gathered", "part"} <= set(kinds(jobs))
        assert intact(jobs, versions)


def test_gc_again_changes_nothing(store):
    versions = evolution(range(COUNT), range(40), [1, 2])
    put(store, versions)
    recoder(store, versions).run(groups(versions))
    tidy(store, versions)
    before = sorted(path.name for _, path in store.pack_files())
    for _ in range(2):
        store.index.mark_recoded(str(store.root), store.index.loose(str(store.root)))
        recoder(store, versions).run(groups(versions))
        tidy(store, versions)
    assert sorted(path.name for _, path in store.pack_files()) == before


def test_tensors_that_are_in_a_bundle_and_alone_are_kept_once(store):
    (first,) = evolution()
    store.put(first[:5])
    store.put(first)
    versions = [first]
    tidy(store, versions)
    assert intact(store, versions)


def test_another_order_of_the_tensors_is_read_and_recoded(store):
    old, new = evolution(range(COUNT))
    versions = [old, new[::-1]]
    put(store, versions)
    by_name = [old, new]
    recoder(store, versions).run(groups(by_name))
    tidy(store, versions)
    assert kinds(store).count("dense") >= 1
    assert intact(store, versions)
