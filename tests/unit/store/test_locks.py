import errno
import fcntl
import subprocess
import sys
import threading

import pytest

from git_theta_ext.errors import StoreError
from git_theta_ext.store.locks import exclusive_lock, file_lock, gc_lock, shared_lock

HOLD = """
import json, sys
from pathlib import Path
from git_theta_ext.store import locks
with getattr(locks, sys.argv[2])(Path(sys.argv[1]), **json.loads(sys.argv[3])):
    print("held", flush=True)
    sys.stdin.read()
"""


class LockedElsewhere:
    """Another process that holds a lock until it ends, or killed."""

    def __init__(self, root, name, options="{}"):
        self.process = subprocess.Popen(
            [sys.executable, "-c", HOLD, str(root), name, options], stdin=subprocess.PIPE, stdout=subprocess.PIPE
        )
        assert self.process.stdout.readline() == b"held\n"

    def __enter__(self):
        return self.process

    def __exit__(self, *_):
        self.process.communicate()


def entered(lock):
    """Tell whether a lock is free, without waiting long for it: a thread waits, and ends when it is."""
    inside = threading.Event()

    def enter():
        with lock:
            inside.set()

    thread = threading.Thread(target=enter)
    thread.start()
    return inside, thread


def test_any_number_may_keep_packs_at_a_time(tmp_path):
    with LockedElsewhere(tmp_path, "shared_lock"), shared_lock(tmp_path), shared_lock(tmp_path):
        pass


@pytest.mark.parametrize(
    ("holder", "other"),
    [("shared_lock", exclusive_lock), ("exclusive_lock", shared_lock), ("exclusive_lock", exclusive_lock)],
)
def test_packs_are_not_dropped_while_a_process_needs_them(tmp_path, holder, other):
    with LockedElsewhere(tmp_path, holder):
        inside, thread = entered(other(tmp_path))
        assert not inside.wait(0.1)
    thread.join(30)
    assert inside.is_set()


def test_one_process_collects_garbage_at_a_time(tmp_path):
    with LockedElsewhere(tmp_path, "gc_lock", '{"wait": true}'):
        with gc_lock(tmp_path, wait=False) as free:
            assert not free
        inside, thread = entered(gc_lock(tmp_path, wait=True))
        assert not inside.wait(0.1)
    thread.join(30)
    assert inside.is_set()
    with gc_lock(tmp_path, wait=False) as free:
        assert free


def test_packs_can_be_used_during_a_garbage_collection(tmp_path):
    with (
        LockedElsewhere(tmp_path, "gc_lock", '{"wait": true}'),
        shared_lock(tmp_path),
        gc_lock(tmp_path, wait=False) as free,
    ):
        assert not free


def test_a_lock_goes_with_its_process(tmp_path):
    with LockedElsewhere(tmp_path, "gc_lock", '{"wait": true}') as process:
        process.kill()
        process.wait()
        with gc_lock(tmp_path, wait=False) as free:
            assert free


def test_a_store_that_cannot_be_written_needs_no_lock(tmp_path):
    (tmp_path / "file").write_bytes(b"")
    with (
        shared_lock(tmp_path / "file"),
        exclusive_lock(tmp_path / "file"),
        gc_lock(tmp_path / "file", wait=False) as free,
    ):
        assert free


def test_a_file_system_without_locks_is_used_without_but_nothing_is_dropped(tmp_path, monkeypatch):
    def refuse(*_):
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr(fcntl, "flock", refuse)
    with shared_lock(tmp_path), file_lock(tmp_path / "some.lock"):
        pass
    for lock in (gc_lock(tmp_path, wait=True), gc_lock(tmp_path, wait=False), exclusive_lock(tmp_path)):
        with pytest.raises(StoreError, match=r"cannot lock .*: No locks available") as raised, lock:
            pytest.fail("no lock was held")
        assert "locks" in raised.value.hint
