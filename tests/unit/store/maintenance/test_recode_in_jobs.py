"""Recoding in jobs writes the same packs, and what a killed run has finished is not written again."""

from functools import partial

import pytest
from kinds import pairs
from pickled import PickledWorkers

from git_theta_ext.errors import CorruptError
from git_theta_ext.model.tensor import tensor_digest
from git_theta_ext.store.exchange import SharedStore
from git_theta_ext.store.maintenance.cheapest import Candidate
from git_theta_ext.store.maintenance.recode import Recoder
from git_theta_ext.store.maintenance.write_jobs import write_plans_in_jobs
from git_theta_ext.store.packs import writer
from git_theta_ext.store.store import Store
from git_theta_ext.store.work_area import WorkArea
from git_theta_ext.transfer.job_exchange import RemoteExchange
from git_theta_ext.transfer.places import RemotePlace
from git_theta_ext.transfer.sync import push


@pytest.fixture
def versions(monkeypatch):
    """Return a base and a tuned version of several tensors, each of which gets a pack of its own."""
    monkeypatch.setattr(writer, "SMALLEST_LIMIT", 1 << 12)
    found = [pair for name, pair in pairs().items() if name.endswith(("BF16", "F32")) or name == "ids"]
    return [
        [(spec, tensor_digest(spec, data), bytes(data)) for spec, data in ((p.old_spec, p.old), (p.new_spec, p.new))]
        for p in found
    ]


def group(versions):
    return [Candidate(new[1], new[0], ((old[1], old[0]),)) for old, new in versions]


def names(store):
    return {path.name for _, path in store.pack_files()}


def filled(root, versions):
    store = Store(root, threads=2)
    store.put([item for pair in versions for item in pair])
    return store


def recode(store, versions, count=2):
    area = WorkArea(store, "gc")
    try:
        exchange = SharedStore(store, area, loose=False)
        left = [name for delivery in exchange.left() for name in delivery.packs]
        write = partial(write_plans_in_jobs, PickledWorkers(count), exchange)
        return Recoder(store, 4, write=write).run([group(versions)]), left
    finally:
        area.close(remove=True)


def test_the_same_packs_with_jobs_and_without(tmp_path, versions):
    plain, jobs = filled(tmp_path / "plain", versions), filled(tmp_path / "jobs", versions)
    expected = Recoder(plain, 4).run([group(versions)])
    done, _ = recode(jobs, versions, 3)
    assert (done.tensors, done.after) == (expected.tensors, expected.after)
    assert len(done.tensors) > 1
    assert names(jobs) == names(plain)
    assert all(jobs.read(digest, spec) == data for pair in versions for spec, digest, data in pair)
    assert jobs.index.loose(str(jobs.root)) == plain.index.loose(str(plain.root))
    assert list((jobs.root / "tmp").iterdir()) == []
    plain.close()
    jobs.close()


def test_packs_of_a_killed_run_are_added_by_the_next(tmp_path, versions, monkeypatch):
    store = filled(tmp_path / "theta", versions)
    before = names(store)
    plain = Recoder(store, 4, dry_run=True)
    area = WorkArea(store, "gc")
    monkeypatch.setattr(area, "add", lambda *_, **__: (_ for _ in ()).throw(KeyboardInterrupt))
    write = partial(write_plans_in_jobs, PickledWorkers(1), SharedStore(store, area))
    with pytest.raises(KeyboardInterrupt):
        Recoder(store, 4, write=write).run([group(versions)])
    area.close(remove=False)
    assert names(store) == before
    done, left = recode(store, versions)
    assert left
    assert done.examined < plain.run([group(versions)]).examined
    assert all(store.read(digest, spec) == data for pair in versions for spec, digest, data in pair)
    store.close()


def test_a_damaged_parent_is_found_before_anything_depends_on_it(tmp_path, versions):
    store = filled(tmp_path / "theta", versions)
    parent = versions[0][0][1]
    path = store.blobs([parent])[parent].path
    before = names(store)
    path.chmod(0o600)
    data = path.read_bytes()
    path.write_bytes(data[:-64] + bytes(64))
    store.reader.close()
    with pytest.raises(CorruptError):
        recode(store, versions[:1])
    assert names(store) == before
    store.close()


def test_jobs_recode_what_a_remote_has_and_the_rest_is_recoded_here(tmp_path, versions, monkeypatch):
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    plain, store = filled(tmp_path / "plain", versions), filled(tmp_path / "jobs", versions)
    expected = Recoder(plain, 4).run([group(versions)])
    place = RemotePlace("origin", str(tmp_path / "remote"), str(tmp_path / "remote"))
    pushed = versions[: len(versions) // 2]
    push(store, place.opened(), {item[1] for pair in pushed for item in pair})
    exchange = RemoteExchange(store, place, place.opened(), bring=True)
    given = []
    monkeypatch.setattr(
        exchange, "inputs", lambda some: given.append(set(some)) or RemoteExchange.inputs(exchange, some)
    )
    done = Recoder(store, 4, write=partial(write_plans_in_jobs, PickledWorkers(2), exchange)).run([group(versions)])
    exchange.close()
    assert (done.tensors, done.after) == (expected.tensors, expected.after)
    assert set().union(*given) <= {item[1] for pair in pushed for item in pair}
    assert len(given) > 1
    assert names(store) == names(plain)
    assert store.all_proven()
    assert store.index.loose(str(store.root)) == plain.index.loose(str(plain.root))
    assert all(store.read(digest, spec) == data for pair in versions for spec, digest, data in pair)
    plain.close()
    store.close()
