import contextlib
import errno
import fcntl
import itertools
import os
import signal
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

import numpy as np
import pytest
from helpers import packs_of
from reports import Done

from git_theta_ext.errors import MissingError, RemoteError
from git_theta_ext.interfaces import RemoteContext
from git_theta_ext.model.remote_keys import index_key, pack_key
from git_theta_ext.model.tensor import TensorSpec, tensor_digest
from git_theta_ext.store.deltas.chains import MAX_CHAIN
from git_theta_ext.store.deltas.encode import DeltaHint, MemorySource, coded_blobs
from git_theta_ext.store.locks import gc_lock
from git_theta_ext.store.maintenance import extract
from git_theta_ext.store.maintenance.combine import combined
from git_theta_ext.store.packs.format import Entry, write_header
from git_theta_ext.store.store import Store
from git_theta_ext.transfer import incoming, remote_index, retry
from git_theta_ext.transfer.damaged import read_damaged
from git_theta_ext.transfer.offers import choose_packs
from git_theta_ext.transfer.outgoing import PushSteps
from git_theta_ext.transfer.records import heads_directory
from git_theta_ext.transfer.remote_index import OpenedRemote, read_remote_index
from git_theta_ext.transfer.sync import fetch, plan_push, push
from git_theta_ext.transfer.verify import verified
from git_theta_ext.util.files import sha256_of
from git_theta_plugins.remotes.directory import open_remote


@pytest.fixture(autouse=True)
def _no_waiting(monkeypatch):
    monkeypatch.setattr(retry, "_WAITS", (0, 0))


def tensors(*seeds, large=False):
    spec = TensorSpec.of("F32", [150_000 if large else 100])
    datas = [bytes([seed, 1, 2, 3]) * spec.elements for seed in seeds]
    return [(spec, tensor_digest(spec, data), data) for data in datas]


def digests(items):
    return [digest for _, digest, _ in items]


def holds(store, items):
    return all(bytes(store.read(digest, spec)) == data for spec, digest, data in items)


class Faulty:
    """A remote whose calls fail or lie on request."""

    def __init__(self, remote):
        self.remote = remote
        self.calls = []
        self.failures = {}
        self.damage = {}
        self.lock = threading.Lock()
        self.ended = threading.Condition(self.lock)
        self.running = {}

    def fail(self, method, *numbers):
        self.failures[method] = set(numbers)

    def __getattr__(self, method):
        real = getattr(self.remote, method)

        def call(*args):
            with self.lock:
                self.calls.append((method, args[0]))
                number = sum(name == method for name, _ in self.calls)
                if number in self.failures.get(method, ()):
                    # A failure stops what other threads do, and how far they are must not matter.
                    assert self.ended.wait_for(lambda: not self.running.get(method), timeout=60)
                    raise RemoteError(f"{method} {number} failed")
                self.running[method] = self.running.get(method, 0) + 1
            try:
                result = real(*args)
            finally:
                with self.lock:
                    self.running[method] -= 1
                    self.ended.notify_all()
            if method == "fetch" and number in self.damage:
                self.damage[number](args[1])
            return result

        return call

    def count(self, method):
        return sum(name == method for name, _ in self.calls)


def truncate(path):
    data = path.read_bytes()
    path.unlink()
    path.write_bytes(data[:-1])


def flip(path):
    data = bytearray(path.read_bytes())
    path.unlink()
    data[-1] ^= 1
    path.write_bytes(data)


@pytest.fixture
def root(tmp_path):
    return tmp_path / "remote"


@pytest.fixture
def faulty(root):
    return Faulty(open_remote(str(root), {}, RemoteContext()))


@pytest.fixture
def place(root, faulty):
    return OpenedRemote("origin", str(root), faulty)


def packs_in(root):
    return {path.name for path in (root / "packs").rglob("*") if path.is_file()}


def test_index_entries_are_published_together_after_the_packs(mine, place, faulty):
    items = tensors(1) + tensors(4, 5, large=True)
    mine.put(items)
    push(mine, place, digests(items))
    changes = [method for method, _ in faulty.calls if method in {"put", "publish"}]
    assert changes == ["put"] * 3 + ["publish"]


def test_what_is_pushed_can_be_fetched(mine, theirs, place):
    items = tensors(1, 2, 3) + tensors(4, 5, large=True)
    mine.put(items)
    up, down = Done(), Done()
    plan = push(mine, place, digests(items), advance=up)
    assert sum(up) == up.expected == plan.nbytes > 0
    assert len(plan.packs) == 3
    fetched = fetch(theirs, [place], digests(items), down)
    assert (fetched.packs, fetched.nbytes) == (3, plan.nbytes)
    assert sum(down) == down.expected == plan.nbytes
    assert holds(theirs, items)
    assert list((theirs.root / "incoming").iterdir()) == []


def test_packs_come_to_a_file_system_without_locks(mine, tmp_path, place, monkeypatch):
    items = tensors(1, 2, 3) + tensors(4, large=True)
    mine.put(items)
    push(mine, place, digests(items))

    def refuse(*_):
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr(fcntl, "flock", refuse)
    warnings = []
    with contextlib.closing(Store(tmp_path / "theirs", warn=warnings.append)) as theirs:
        fetch(theirs, [place], digests(items))
        assert holds(theirs, items)
        assert list((theirs.root / "incoming").iterdir()) == []
    assert all("No locks available" in text and "downloading without locks" in text for text in warnings)
    assert warnings


def test_only_what_is_asked_for_moves(mine, theirs, place, root):
    items = tensors(1, 2, 3, large=True)
    mine.put(items)
    push(mine, place, digests(items[:2]))
    assert packs_in(root) == packs_of(mine, digests(items[:2]))
    fetch(theirs, [place], digests(items[:1]))
    assert theirs.touch_and_find_missing(digests(items)) == set(digests(items[1:]))


def test_index_entries_are_the_heads_of_packs(mine, place, root):
    items = tensors(1)
    mine.put(items)
    push(mine, place, digests(items))
    (name,) = packs_in(root)
    head = (root / index_key(name)).read_bytes()
    assert (root / pack_key(name)).read_bytes().startswith(head)
    assert len(head) == remote_index.read_header(head).nbytes


def test_a_second_push_uploads_nothing(mine, place, faulty):
    items = tensors(1)
    mine.put(items)
    push(mine, place, digests(items))
    puts = faulty.count("put")
    assert push(mine, place, digests(items)).packs == ()
    assert faulty.count("put") == puts


def test_nothing_to_push_asks_nobody(mine, place, faulty):
    push(mine, place, [])
    assert fetch(mine, [place], []).packs == 0
    assert faulty.calls == []


def test_a_tensor_that_another_pack_brought_is_not_uploaded_again(mine, theirs, place):
    item = tensors(1)
    mine.put(item)
    theirs.put(item + tensors(2))
    push(theirs, place, digests(item))
    assert push(mine, place, digests(item)).packs == ()


def test_a_push_of_what_nobody_has_fails_before_uploading(mine, place, root):
    items = tensors(1, 2)
    mine.put(items[:1])
    with pytest.raises(MissingError, match="1 of 2 tensors and file layouts are neither in the store nor on origin"):
        push(mine, place, digests(items))
    assert not root.exists()


def test_a_push_from_a_partial_clone_needs_only_what_the_remote_lacks(mine, theirs, place):
    old, new = tensors(1), tensors(2)
    mine.put(old)
    push(mine, place, digests(old))
    theirs.put(new)
    push(theirs, place, digests(old + new))
    assert plan_push(mine, place, digests(old + new)).packs == ()


@pytest.mark.parametrize("method", ["list", "get", "put"])
def test_a_push_survives_two_failures(mine, theirs, place, faulty, root, method):
    items = tensors(1, large=True)
    theirs.put(items)
    if method == "get":
        push(theirs, place, digests(items))
        items += tensors(2, large=True)
    mine.put(items[-1:])
    faulty.calls.clear()
    faulty.fail(method, 1, 2)
    push(mine, place, digests(items))
    assert packs_of(mine, digests(items[-1:])) <= packs_in(root)


def test_a_push_fails_closed_and_the_next_one_goes_on(mine, theirs, place, faulty):
    items = tensors(1, 2, 3, 4, large=True)
    mine.put(items)
    faulty.fail("put", *range(4, 100))
    with pytest.raises(RemoteError, match=r"put \d+ failed"):
        push(mine, place, digests(items))
    faulty.failures.clear()
    uploaded = plan_push(mine, place, digests(items))
    assert 0 < len(uploaded.packs) < 4
    push(mine, place, digests(items))
    fetch(theirs, [place], digests(items))
    assert holds(theirs, items)


def test_a_push_adds_index_entries_that_an_interrupted_one_left_out(mine, place, root):
    items = tensors(1, 2, large=True)
    mine.put(items)
    push(mine, place, digests(items))
    names = packs_in(root)
    for name in names:
        (root / index_key(name)).unlink()
    push(mine, place, digests(items))
    assert {path.name for path in (root / "index").iterdir()} == names


@pytest.mark.parametrize("damage", [lambda _: b"GTHETAPK but damaged", lambda data: data[:-9] + bytes(9)])
def test_something_else_under_a_packs_name_is_left_there_and_another_pack_pushed(mine, theirs, place, root, damage):
    items = tensors(1, large=True)
    mine.put(items)
    names = packs_of(mine, digests(items))
    for name in names:
        path = root / pack_key(name)
        path.parent.mkdir(parents=True)
        path.write_bytes(damage(mine.pack_path(name).read_bytes()))
    push(mine, place, digests(items))
    fetch(theirs, [place], digests(items))
    assert holds(theirs, items)
    assert not names & {path.name for path in (root / "index").iterdir()}
    assert push(mine, place, digests(items)).packs == ()


def test_packs_that_were_damaged_on_the_remote_are_replaced_once_that_is_known(mine, theirs, place, root):
    items = tensors(1, 2, large=True)
    mine.put(items)
    push(mine, place, digests(items))
    before = {name: (root / pack_key(name)).read_bytes() for name in packs_in(root)}

    def write(change):
        for name, content in before.items():
            path = root / pack_key(name)
            path.unlink()  # it may be a link to the pack in the store
            path.write_bytes(change(content))

    write(lambda content: content[:-9] + bytes(9))
    assert push(mine, place, digests(items)).packs == ()  # nothing has shown it yet
    assert verified(mine, place, digests(items), download=True) == set()
    assert read_damaged(mine.root, place.url) == set(before)
    write(lambda content: content)
    assert verified(mine, place, digests(items), download=True) == set(digests(items))
    assert read_damaged(mine.root, place.url) == set()
    write(lambda content: content[:-9] + bytes(9))
    assert verified(mine, place, digests(items), download=True) == set()
    push(mine, place, digests(items))
    fetch(theirs, [place], digests(items))
    assert holds(theirs, items)
    assert verified(mine, place, digests(items), download=True) == set(digests(items))


def test_a_working_repository_serves_packs_without_index_entries(mine, theirs, tmp_path):
    items = tensors(1, 2) + tensors(3, large=True)
    mine.put(items)
    place = OpenedRemote("origin", str(mine.root), open_remote(str(mine.root), {}, RemoteContext()))
    fetch(theirs, [place], digests(items))
    assert holds(theirs, items)
    assert not (mine.root / "index").exists()


def test_a_head_larger_than_the_first_guess_is_read_whole(mine, theirs, monkeypatch):
    monkeypatch.setattr(remote_index, "_GUESS", 20)
    items = tensors(1, 2)
    mine.put(items)
    fetch(
        theirs,
        [OpenedRemote("origin", str(mine.root), open_remote(str(mine.root), {}, RemoteContext()))],
        digests(items),
    )
    assert holds(theirs, items)


@pytest.mark.parametrize("content", [b"", b"GTHETAPK", b"x" * 500])
def test_a_damaged_index_entry_is_passed_over(mine, theirs, place, root, content):
    items = tensors(1)
    mine.put(items)
    push(mine, place, digests(items))
    (entry,) = (root / "index").iterdir()
    entry.unlink()
    entry.write_bytes(content)
    fetch(theirs, [place], digests(items))
    assert holds(theirs, items)


def test_heads_are_read_once(mine, theirs, place, faulty):
    items = tensors(1, 2, large=True)
    mine.put(items)
    push(mine, place, digests(items))
    fetch(theirs, [place], digests(items[:1]))
    assert faulty.count("get") == 2
    fetch(theirs, [place], digests(items[1:]))
    assert faulty.count("get") == 2


def test_heads_of_packs_that_are_gone_are_forgotten(mine, theirs, place, root):
    items = tensors(1, 2, large=True)
    mine.put(items)
    push(mine, place, digests(items))
    (gone,) = packs_of(mine, digests(items[1:]))
    fetch(theirs, [place], digests(items[:1]))
    assert (heads_directory(theirs.root, place.url) / gone).exists()
    os.utime(heads_directory(theirs.root, place.url) / gone, (1000, 1000))
    (root / pack_key(gone)).unlink()
    with pytest.raises(MissingError):
        fetch(theirs, [place], digests(items))
    assert not (heads_directory(theirs.root, place.url) / gone).exists()
    assert holds(theirs, items[:1])


def test_heads_that_another_process_is_just_writing_are_left_alone(mine, place):
    items = tensors(1, large=True)
    mine.put(items)
    push(mine, place, digests(items))
    being_written = [heads_directory(mine.root, place.url) / name for name in ("tmp~0", "ab" * 32)]
    for path in being_written:
        path.write_bytes(b"head")
    read_remote_index(mine, place)
    assert all(path.exists() for path in being_written)


@pytest.mark.parametrize("spoil", [truncate, flip])
def test_a_damaged_download_is_done_again(mine, theirs, place, faulty, spoil):
    items = tensors(1, large=True)
    mine.put(items)
    push(mine, place, digests(items))
    faulty.damage[1] = spoil
    fetch(theirs, [place], digests(items))
    assert holds(theirs, items)
    assert faulty.count("fetch") == 2


@pytest.mark.parametrize("spoil", [truncate, flip])
def test_a_damaged_pack_is_never_stored_and_named(mine, theirs, place, root, spoil):
    items = tensors(1, 2, large=True)
    mine.put(items)
    push(mine, place, digests(items))
    (name,) = packs_of(mine, digests(items[:1]))
    spoil(root / pack_key(name))
    with pytest.raises(MissingError, match=name) as caught:
        fetch(theirs, [place], digests(items))
    assert f"{place.url}: {place.url}" not in caught.value.message
    assert theirs.touch_and_find_missing(digests(items)) == set(digests(items[:1]))
    assert list((theirs.root / "incoming").iterdir()) == []


def test_a_damaged_remote_copy_leaves_the_local_pack_alone(mine, place, root):
    items = tensors(1, large=True)
    mine.put(items)
    push(mine, place, digests(items))
    flip(next(path for path in (root / "packs").rglob("*") if path.is_file()))
    assert holds(mine, items)


def test_another_remote_helps_out(mine, theirs, place, root, tmp_path):
    items = tensors(1, 2, large=True)
    mine.put(items)
    backup = OpenedRemote(
        "backup", str(tmp_path / "backup"), open_remote(str(tmp_path / "backup"), {}, RemoteContext())
    )
    push(mine, place, digests(items))
    push(mine, backup, digests(items))
    flip(root / pack_key(*packs_of(mine, digests(items[:1]))))
    fetch(theirs, [place, backup], digests(items))
    assert holds(theirs, items)


def test_a_later_remote_is_not_asked_without_need(mine, theirs, place, tmp_path):
    items = tensors(1)
    mine.put(items)
    push(mine, place, digests(items))
    other = Faulty(open_remote(str(tmp_path / "other"), {}, RemoteContext()))
    fetch(theirs, [place, OpenedRemote("other", "other", other)], digests(items))
    assert other.calls == []


def test_an_unreachable_remote_does_not_stop_the_next(mine, theirs, place, tmp_path):
    items = tensors(1)
    mine.put(items)
    push(mine, place, digests(items))
    gone = OpenedRemote("gone", "gone", open_remote(str(tmp_path / "unmounted" / "theta"), {}, RemoteContext()))
    fetch(theirs, [gone, place], digests(items))
    assert holds(theirs, items)


def test_what_is_nowhere_is_reported_with_where_it_was_looked_for(theirs, place, root, tmp_path):
    with pytest.raises(MissingError, match=r"1 of 1 tensors .* searched origin \(") as caught:
        fetch(theirs, [place], digests(tensors(1)))
    assert caught.value.hint
    with pytest.raises(MissingError, match="no remote is configured"):
        fetch(theirs, [], digests(tensors(1)))
    gone = OpenedRemote("gone", "gone", open_remote(str(tmp_path / "unmounted" / "theta"), {}, RemoteContext()))
    with pytest.raises(RemoteError, match="no such directory"):
        fetch(theirs, [gone, place], digests(tensors(1)))


def test_a_fetch_goes_on_where_it_was_cut_off(mine, theirs, place, root, faulty):
    items = tensors(1, large=True)
    mine.put(items)
    push(mine, place, digests(items))
    (name,) = packs_in(root)
    part = theirs.root / "incoming" / f"{name}.part"
    part.parent.mkdir(parents=True)
    part.write_bytes((root / pack_key(name)).read_bytes()[:1000])
    before = part.stat().st_ino
    fetch(theirs, [place], digests(items))
    assert theirs.pack_path(name).stat().st_ino == before
    assert faulty.count("fetch") == 1
    assert holds(theirs, items)


def test_downloads_that_nobody_went_on_with_are_removed(theirs, place):
    folder = theirs.root / "incoming"
    folder.mkdir(parents=True)
    old, young = folder / "old.part", folder / "young.part"
    for path in (old, young):
        path.write_bytes(b"x")
    os.utime(old, (time.time() - 15 * 24 * 3600,) * 2)
    with pytest.raises(MissingError):
        fetch(theirs, [place], digests(tensors(1)))
    assert not old.exists()
    assert young.exists()


def test_several_may_push_and_fetch_at_once(mine, place, tmp_path):
    items = tensors(*range(6), large=True)
    mine.put(items)
    stores = [Store(tmp_path / "theirs") for _ in range(3)]
    with ThreadPoolExecutor(6) as executor:
        list(executor.map(lambda _: push(mine, place, digests(items)), range(3)))
        list(executor.map(lambda store: fetch(store, [place], digests(items)), stores))
    assert holds(stores[0], items)
    assert list((tmp_path / "theirs" / "incoming").iterdir()) == []


def test_packs_that_another_push_combines_meanwhile_are_found_where_they_are_then(mine, place, monkeypatch):
    items = tensors(*range(6), large=True)
    mine.put(items)
    chosen = extract.smallest
    before = {path.name for _, path in mine.pack_files()}

    def combine_first(locations):
        monkeypatch.setattr(extract, "smallest", chosen)
        with gc_lock(mine.root, wait=True):
            assert not before & combined(mine, before)
        return chosen(locations)

    monkeypatch.setattr(extract, "smallest", combine_first)
    push(mine, place, digests(items))
    with contextlib.closing(Store(mine.root.parent / "other")) as other:
        fetch(other, [place], digests(items))
        assert holds(other, items)


def test_a_pack_that_another_process_just_put_in_place_is_found(mine, theirs, place, faulty):
    items = tensors(1)
    mine.put(items)
    push(mine, place, digests(items))
    assert theirs.touch_and_find_missing(digests(items))
    (name,) = packs_of(mine, digests(items))
    theirs.pack_path(name).parent.mkdir(parents=True)
    theirs.pack_path(name).write_bytes(mine.pack_path(name).read_bytes())
    assert fetch(theirs, [place], digests(items)).packs == 0
    assert holds(theirs, items)


STUCK = """
import itertools, os, sys, threading
from pathlib import Path
from git_theta_ext.store.store import Store
from git_theta_ext.interfaces import RemoteContext
from git_theta_ext.transfer.remote_index import OpenedRemote
from git_theta_ext.transfer.sync import fetch, push
from git_theta_plugins.remotes import _files
from git_theta_plugins.remotes.directory import open_remote

written = itertools.count(1)

def write_some(fd, data):
    for at in range(0, len(data), 5000):
        os.write(fd, data[at:at + 5000])
        os.write(1, b"wrote\\n")
        if next(written) >= 3:
            threading.Event().wait()

_files.hard_link = lambda *_: False
_files._reflink = lambda *_: False
_files.write_all = write_some
store, remote, command = Store(Path(sys.argv[1])), sys.argv[2], sys.argv[3]
place = OpenedRemote("origin", remote, open_remote(remote, {}, RemoteContext()))
{"push": lambda d: push(store, place, d), "fetch": lambda d: fetch(store, [place], d)}[command](sys.argv[4:])
"""


def killed(store, root, command, wanted):
    child = subprocess.Popen(
        [sys.executable, "-c", STUCK, str(store.root), str(root), command, *wanted], stdout=subprocess.PIPE
    )
    with child:
        for _ in range(3):
            assert child.stdout.readline() == b"wrote\n"
        child.send_signal(signal.SIGKILL)
        child.stdout.read()
    assert child.returncode == -signal.SIGKILL


def test_a_killed_push_leaves_no_half_objects_and_the_next_finishes(mine, theirs, place, root):
    items = [(spec, tensor_digest(spec, data), data) for spec, data in noise(4)]
    mine.put(items)
    killed(mine, root, "push", digests(items))
    assert all("~" not in key for key in place.plugin.list(""))
    push(mine, place, digests(items))
    fetch(theirs, [place], digests(items))
    assert holds(theirs, items)


def test_a_killed_fetch_keeps_what_came_and_the_next_finishes(mine, theirs, place, root):
    items = [(spec, tensor_digest(spec, data), data) for spec, data in noise(4)]
    mine.put(items)
    push(mine, place, digests(items))
    killed(theirs, root, "fetch", digests(items))
    parts = list((theirs.root / "incoming").glob("*.part"))
    assert any(path.stat().st_size > 0 for path in parts)
    fetch(theirs, [place], digests(items))
    assert holds(theirs, items)
    assert list((theirs.root / "incoming").iterdir()) == []


def noise(count):
    spec = TensorSpec.of("U8", [300_000])
    return [(spec, os.urandom(spec.nbytes)) for _ in range(count)]


def test_a_lock_left_by_a_killed_process_stops_nobody(tmp_path):
    folder = tmp_path / "incoming"
    folder.mkdir()
    (folder / "x.lock").touch()
    with incoming.locked_part(folder, "x", pytest.fail) as part:
        assert part == folder / "x.part"
    assert list(folder.iterdir()) == []


def test_one_at_a_time_works_on_a_download(tmp_path):
    inside = []

    def work(_):
        with incoming.locked_part(tmp_path, "x", pytest.fail):
            inside.append(1)
            assert len(inside) == 1
            time.sleep(0.005)
            inside.pop()

    with ThreadPoolExecutor(8) as executor:
        list(executor.map(work, range(24)))
    assert list(Path(tmp_path).iterdir()) == []


def plant(root, tmp_path, *entries, payload=b""):
    """Put a pack of these entries on a remote; its payloads are up to the test."""
    path = tmp_path / "planted"
    path.write_bytes(write_header(entries) + payload)
    name = sha256_of(path)
    place = root / pack_key(name)
    place.parent.mkdir(parents=True, exist_ok=True)
    path.rename(place)
    return name


def test_what_a_remote_passes_off_as_a_tensor_is_thrown_away(mine, theirs, place, root, tmp_path):
    good, other = tensors(1, 2)
    name = plant(root, tmp_path, Entry(good[1], good[0], "dense", (1,)), payload=b"\0")
    with pytest.raises(MissingError, match="searched origin"):
        fetch(theirs, [place], digests([good]))
    assert not theirs.has_pack(name)
    theirs.put([good, other])
    assert holds(theirs, [good, other])


def test_a_remote_whose_entries_lean_in_a_circle_still_gives_what_it_holds_whole(mine, theirs, place, root, tmp_path):
    one, two = tensors(1, 2)
    mine.put([one, two])
    push(mine, place, digests([one, two]))
    for each, base in ((one, two), (two, one)):
        plant(root, tmp_path, Entry(each[1], each[0], "delta", (1,), bases=(base[1],)), payload=b"\0")
    index = remote_index.read_remote_index(theirs, place)
    packs, complete = choose_packs(digests([one, two]), index.locations, theirs)
    assert complete
    assert any(not entry.bases for name in packs for entry in index.headers[name].entries)


def test_what_would_lean_too_deep_on_a_remote_is_sent_whole(mine, theirs, place, root):
    spec = TensorSpec.of("F32", (4096,))
    draw = np.random.default_rng(0)
    items, values = [], draw.normal(0, 0.05, spec.elements).astype("<f4")
    for _ in range(MAX_CHAIN + 3):
        items.append((spec, tensor_digest(spec, values.data), values.tobytes()))
        values = values + draw.normal(0, 1e-5, spec.elements).astype("<f4")
    half = len(items) // 2
    for store, part in ((theirs, items[: half + 1]), (mine, items[half:])):
        store.put(part[:1])
        for old, new in itertools.pairwise(part):
            source = [partial(MemorySource, each[0], each[2]) for each in (new, old)]
            store.write([coded_blobs(new[1], DeltaHint("delta", old[1], old[0]), *source)], loose=False)
        push(store, place, digests(part))
    reader = Store(root.parent / "reader")
    fetch(reader, [place], digests(items))
    assert holds(reader, items)


def aged(root):
    for path in [path for path in root.rglob("*") if path.is_file()]:
        os.utime(path, (time.time() - 30 * 86_400,) * 2)


def test_a_push_makes_young_what_it_relies_on_and_nothing_else(mine, place, root):
    items = tensors(1, 2, large=True)
    mine.put(items)
    push(mine, place, digests(items))
    aged(root / "packs")
    assert push(mine, place, digests(items[:1])).packs == ()
    (used,) = packs_of(mine, digests(items[:1]))
    young = {
        path.name for path in (root / "packs").rglob("*") if path.is_file() and time.time() - path.stat().st_mtime < 60
    }
    assert young == {used}


def test_what_a_collection_removes_from_a_remote_during_a_push_is_uploaded_after_all(mine, theirs, place, root, faulty):
    items = tensors(1, 2, large=True)
    mine.put(items)
    push(mine, place, digests(items[:1]))
    (name,) = packs_of(mine, digests(items[:1]))
    real = faulty.remote.keep

    def collected(keys):
        (root / pack_key(name)).unlink(missing_ok=True)
        faulty.remote.keep = real
        return real(keys)

    faulty.remote.keep = collected
    assert name in push(mine, place, digests(items)).relied_on
    fetch(theirs, [place], digests(items))
    assert holds(theirs, items)


def test_a_remote_that_keeps_nothing_is_an_error(mine, place, faulty):
    items = tensors(1)
    mine.put(items)
    faulty.remote.keep = lambda _: set()
    with pytest.raises(RemoteError, match=r"removed pack .* right after the push"):
        push(mine, place, digests(items))


def test_what_is_neither_here_nor_there_may_be_left_out(mine, theirs, place):
    items = tensors(1, 2)
    mine.put(items[:1])
    asked = []
    push(mine, place, digests(items), PushSteps(obtain=lambda absent: asked.append(set(absent)) or absent))
    assert asked == [set(digests(items[1:]))]
    fetch(theirs, [place], digests(items[:1]))
    assert holds(theirs, items[:1])


def test_a_push_to_a_remote_for_reading_is_refused_before_anything_is_prepared(tmp_path):
    class ReadOnly:
        def __init__(self):
            self.reads = open_remote(str(tmp_path / "remote"), {}, RemoteContext())
            self.list, self.keep = self.reads.list, self.reads.keep
            self.get, self.fetch = self.reads.get, self.reads.fetch

        def read_only_error(self):
            return RemoteError("nothing is uploaded")

    store = Store(tmp_path / "store")
    items = tensors(1, 2)
    store.put(items)
    there = OpenedRemote("origin", "there", ReadOnly())
    steps = PushSteps(lambda _: pytest.fail("prepared"), lambda _: pytest.fail("searched for"))
    with pytest.raises(RemoteError, match="nothing is uploaded"):
        push(store, there, digests(items), steps)
    push(store, OpenedRemote("origin", "there", there.plugin.reads), digests(items))
    push(store, there, digests(items))  # it has everything
