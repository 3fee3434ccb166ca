"""Upload while others packs are still made: what goes early, and how either side stops the other."""

import threading
import time
from functools import partial

import pytest
from helpers import packs_of
from reports import Done

from git_theta_ext.errors import CorruptError, MissingError, RemoteError
from git_theta_ext.interfaces import RemoteContext
from git_theta_ext.model.tensor import TensorSpec, tensor_digest
from git_theta_ext.store.deltas.encode import DeltaHint, MemorySource, coded_blobs
from git_theta_ext.store.store import Store
from git_theta_ext.transfer import early, outgoing, retry
from git_theta_ext.transfer.early import FinalPacks
from git_theta_ext.transfer.meter import Meter
from git_theta_ext.transfer.outgoing import PushSteps
from git_theta_ext.transfer.pool import StoppedError
from git_theta_ext.transfer.remote_index import OpenedRemote, read_remote_index
from git_theta_ext.transfer.sync import fetch, push
from git_theta_plugins.remotes.directory import open_remote

SPEC = TensorSpec.of("F32", [150_000])
SMALL = TensorSpec.of("F32", [100])


@pytest.fixture(autouse=True)
def _no_waiting(monkeypatch):
    monkeypatch.setattr(retry, "_WAITS", (0, 0))
    monkeypatch.setattr(early, "ENOUGH", 1)  # each pack is uploaded when it is final


def tensors(*seeds, spec=SPEC):
    datas = [bytes([seed, 1, 2, 3]) * spec.elements for seed in seeds]
    return [(spec, tensor_digest(spec, data), data) for data in datas]


def digests(items):
    return [digest for _, digest, _ in items]


class Slow:
    """A directory whose ``put`` waits for a permit, and can be told to fail."""

    def __init__(self, root, meter):
        self._directory = open_remote(str(root), {}, RemoteContext())
        self._meter = meter
        self.permits = threading.Semaphore(0)
        self.began = threading.Semaphore(0)
        self.puts, self.stopped = [], []
        self.failure = None

    def __getattr__(self, method):
        return getattr(self._directory, method)

    def put(self, key, path):
        self.puts.append(key.rpartition("/")[2])
        self.began.release()
        deadline = time.monotonic() + 60
        while not self.permits.acquire(timeout=0.001):
            assert time.monotonic() < deadline
            try:
                self._meter(key, 1)
            except StoppedError:
                self.stopped.append(key)
                raise
            if self.failure is not None:
                raise self.failure
        return self._directory.put(key, path)


@pytest.fixture
def place(tmp_path):
    meter = Meter()
    return OpenedRemote("origin", str(tmp_path / "remote"), Slow(tmp_path / "remote", meter), meter)


def until(condition):
    deadline = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.001)


def test_what_is_settled_is_uploaded_while_the_rest_is_made(mine, place, tmp_path):
    items = tensors(1, 2, 3)
    mine.put(items)
    done, seen = Done(), []

    def prepare(going):
        going.upload(digests(items[:1]))
        going.upload(digests(items[:1]))
        place.plugin.permits.release()
        until(lambda: sum(done))
        seen.extend(place.plugin.puts)
        assert not read_remote_index(mine, place).indexed
        place.plugin.permits.release(2)

    push(mine, place, digests(items), PushSteps(prepare), done)
    assert set(seen) == packs_of(mine, digests(items[:1]))
    assert len(place.plugin.puts) == 3  # none twice
    assert sum(done) == done.expected
    with_all = Store(tmp_path / "theirs")
    fetch(with_all, [place], digests(items))
    assert with_all.touch_and_find_missing(digests(items)) == set()


def test_an_upload_that_fails_stops_the_preparation(mine, place):
    items = tensors(1, 2, 3)
    mine.put(items)
    place.plugin.failure = RemoteError("the disk there is full")
    after = []

    def prepare(going):
        going.upload(digests(items[:1]))
        until(lambda: after.append(1) or going.upload(()))

    with pytest.raises(RemoteError, match="the disk there is full"):
        push(mine, place, digests(items), PushSteps(prepare))
    assert after
    assert not read_remote_index(mine, place).headers


@pytest.mark.parametrize("error", [CorruptError("a damaged tensor"), KeyboardInterrupt(), MissingError("gone")])
def test_a_preparation_that_fails_stops_the_uploads(mine, place, error):
    items = tensors(*range(1, 12))
    mine.put(items)

    def prepare(going):
        going.upload(digests(items))
        place.plugin.began.acquire()
        raise error

    with pytest.raises(type(error)):
        push(mine, place, digests(items), PushSteps(prepare))
    assert 1 <= len(place.plugin.puts) == len(place.plugin.stopped) <= outgoing._UPLOADS
    place.plugin.permits.release(100)
    push(mine, place, digests(items))
    assert read_remote_index(mine, place).held(digests(items)) == set(digests(items))


def test_no_more_than_some_packs_wait(mine, place, monkeypatch):
    monkeypatch.setattr(outgoing, "_WAITING", 2)
    items = tensors(1, 2, 3)
    mine.put(items)
    taken = []

    def prepare(going):
        for item in items:
            going.upload([item[1]])
            taken.append(item)

    thread = threading.Thread(target=push, args=(mine, place, digests(items), PushSteps(prepare)))
    thread.start()
    for _ in range(2):
        place.plugin.began.acquire()
    until(lambda: len(taken) == 2)
    time.sleep(0.05)
    assert len(taken) == 2
    place.plugin.permits.release(3)
    thread.join()
    assert len(taken) == 3


def test_only_packs_that_the_push_needs_whole_are_final(mine):
    shared, large = tensors(1, 2, 3, spec=SMALL), tensors(4, 5)
    mine.put(shared + large)
    (pack,) = packs_of(mine, digests(shared))
    private = FinalPacks(mine, set(digests(shared[:2])), set(), set())
    assert list(private.add(digests(shared))) == []  # the third one stays here
    partly_there = FinalPacks(mine, set(digests(shared[:2])), set(digests(shared[2:])), set())
    assert list(partly_there.add(digests(shared))) == []
    every = FinalPacks(mine, set(digests(shared + large)), set(), set())
    assert list(every.add(digests(shared[:2]))) == []  # the third one may still be recoded
    assert list(every.add(digests(large[:1]))) == sorted(packs_of(mine, digests(large[:1])))
    assert list(every.add(digests(shared[2:]))) == [pack]
    assert list(every.add(digests(shared))) == []
    known = FinalPacks(mine, set(digests(large)), set(), packs_of(mine, digests(large[:1])))
    assert list(known.add(digests(large))) == sorted(packs_of(mine, digests(large[1:])))


def test_a_delta_is_final_if_its_parent_may_be_relied_on(mine):
    old, new = tensors(1, 2)
    mine.put([old])
    source = [partial(MemorySource, each[0], each[2]) for each in (new, old)]
    (delta,) = mine.write([coded_blobs(new[1], DeltaHint("delta", old[1], old[0]), *source)], loose=False)
    for there, expected in ((set(), []), ({old[1]}, [delta])):
        assert list(FinalPacks(mine, {new[1]}, there, set()).add([new[1]])) == expected
    assert list(FinalPacks(mine, {new[1], old[1]}, set(), set()).add([new[1]])) == [delta]
