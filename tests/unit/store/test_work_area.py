"""What jobs have finished is added to the store once, also after the process that wanted it was killed."""

import os
from pathlib import Path

import pytest

from git_theta_ext.errors import CorruptError, MissingError
from git_theta_ext.model.tensor import TensorSpec, tensor_digest
from git_theta_ext.store.job_store import JobStore
from git_theta_ext.store.store import Store
from git_theta_ext.store.temporary import clear_stale
from git_theta_ext.store.work_area import Delivery, WorkArea, deliver

SPEC = TensorSpec.of("F32", (1000,))


def tensor(number: int) -> tuple[TensorSpec, str, bytes]:
    data = number.to_bytes(4, "little") * 1000
    return SPEC, tensor_digest(SPEC, data), data


@pytest.fixture
def store(tmp_path: Path):
    made = Store(tmp_path / "theta")
    yield made
    made.close()


def job_store(store: Store, area: WorkArea, *digests: str) -> JobStore:
    return JobStore(store.blobs(digests), store.roots, area.path)


def names(store: Store) -> list[str]:
    return sorted(path.name for _, path in store.pack_files())


def left(store: Store) -> list[str]:
    return sorted(path.name for path in (store.root / "tmp").iterdir())


def test_a_finished_pack_is_added_and_the_area_removed(store: Store) -> None:
    area = WorkArea(store, "key")
    jobs = job_store(store, area)
    jobs.put([tensor(1), tensor(2)])
    assert names(store) == []
    area.add(jobs.packs)
    assert names(store) == jobs.packs
    assert bytes(store.read(tensor(2)[1], SPEC)) == tensor(2)[2]
    assert store.touch_and_find_missing([tensor(1)[1]]) == set()
    area.close(remove=True)
    assert left(store) == []


def test_what_a_killed_run_has_finished_is_found_by_the_next(store: Store) -> None:
    area = WorkArea(store, "key")
    jobs = job_store(store, area)
    jobs.put([tensor(1)])
    deliver(area.path, Delivery(tuple(jobs.packs), [["fact"]]))
    unfinished = job_store(store, area)
    unfinished.put([tensor(2)])
    area.close(remove=False)  # as the lock of a killed process
    again = WorkArea(store, "key")
    assert again.path == area.path
    assert list(again.left()) == [Delivery(tuple(jobs.packs), [["fact"]])]
    assert names(store) == jobs.packs
    assert list(again.left()) == []
    again.close(remove=True)
    assert left(store) == []


def test_a_pack_that_was_added_before_the_kill_is_no_problem(store: Store) -> None:
    area = WorkArea(store, "key")
    jobs = job_store(store, area)
    jobs.put([tensor(1)])
    deliver(area.path, Delivery(tuple(jobs.packs), []))
    area.add(jobs.packs)
    assert [found.packs for found in area.left()] == [tuple(jobs.packs)]
    area.close(remove=True)


@pytest.mark.parametrize("content", ["", "[", '{"packs": ["../../etc"], "facts": []}', '{"packs": 1}', '{"facts": []}'])
def test_a_record_that_is_not_one_is_skipped(store: Store, content: str) -> None:
    area = WorkArea(store, "key")
    deliver(area.path, Delivery((), []))
    next((area.path / "done").iterdir()).write_text(content)
    assert list(area.left()) == []
    area.close(remove=True)


def test_a_record_without_its_packs_is_skipped(store: Store) -> None:
    area = WorkArea(store, "key")
    deliver(area.path, Delivery(("0" * 64,), []))
    assert list(area.left()) == []
    area.close(remove=True)


def test_a_truncated_pack_is_not_added(store: Store) -> None:
    area = WorkArea(store, "key")
    jobs = job_store(store, area)
    jobs.put([tensor(1)])
    made = area.path / "packs" / jobs.packs[0][:2] / jobs.packs[0]
    made.chmod(0o600)
    os.truncate(made, made.stat().st_size - 1)
    with pytest.raises(CorruptError, match="size"):
        area.add(jobs.packs)
    assert names(store) == []
    area.close(remove=True)


def test_two_processes_do_not_share_an_area(store: Store) -> None:
    first, second = WorkArea(store, "key"), WorkArea(store, "key")
    assert first.path != second.path
    second.close(remove=False)
    assert left(store) == ["key.work"]
    first.close(remove=False)
    assert left(store) == []


def test_an_area_that_nobody_used_for_a_day_is_removed(store: Store) -> None:
    area, used = WorkArea(store, "key"), WorkArea(store, "used")
    for one in (area, used):
        job_store(store, one).put([tensor(1)])
        deliver(one.path, Delivery())
    area.close(remove=False)
    clear_stale(store.root)
    assert left(store) == ["key.work", "used.work"]
    for one in (area, used):
        for path in (one.path, *one.path.rglob("*")):
            os.utime(path, (0, 0))
    clear_stale(store.root)
    assert left(store) == ["used.work"]
    used.close(remove=True)


def test_a_job_reads_what_it_was_given_also_if_it_has_moved(store: Store) -> None:
    store.put([tensor(1)])
    area = WorkArea(store, "key")
    jobs = job_store(store, area, tensor(1)[1])
    assert bytes(jobs.read(tensor(1)[1], SPEC)) == tensor(1)[2]
    assert jobs.touch_and_find_missing([tensor(1)[1], tensor(2)[1]]) == {tensor(2)[1]}
    with pytest.raises(MissingError, match="not given"):
        jobs.read(tensor(2)[1], SPEC)
    with pytest.raises(CorruptError, match="holds"):
        jobs.read(tensor(1)[1], TensorSpec.of("F32", (10, 100)))
    moved = job_store(store, area, tensor(1)[1])
    (pack,) = names(store)
    other = JobStore({}, store.roots, area.path)
    other.put([tensor(0), tensor(1)])
    store.drop([pack])
    area.add(other.packs)
    assert bytes(moved.read(tensor(1)[1], SPEC)) == tensor(1)[2]
    area.close(remove=True)


def test_a_job_names_what_turned_out_to_be_damaged(store: Store) -> None:
    store.put([tensor(1)])
    (path,) = (path for _, path in store.pack_files())
    path.chmod(0o600)
    with path.open("r+b") as file:
        file.seek(-3, os.SEEK_END)
        file.write(b"\xff\xfe\xfd")
    area = WorkArea(store, "key")
    jobs = job_store(store, area, tensor(1)[1])
    with pytest.raises(CorruptError):
        jobs.read(tensor(1)[1], SPEC)
    assert jobs.doubted == {tensor(1)[1]}
    area.close(remove=True)
