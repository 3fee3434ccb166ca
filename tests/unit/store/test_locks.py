import errno
import fcntl
import subprocess
import sys
import threading

import pytest

from git_theta_ext.errors import StoreError
from git_theta_ext.store.locks import alone, dropping, file_lock, kept

HOLD = """
import json, sys
from pathlib import Path
from git_theta_ext.store import locks
with getattr(locks, sys.argv[2])(Path(sys.argv[1]), **json.loads(sys.argv[3])):
    print("held", flush=True)
    sys.stdin.read()
"""


class Holder:
    """Another process that holds a lock until it is told to let go, or killed."""

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
    with Holder(tmp_path, "kept"), kept(tmp_path), kept(tmp_path):
        pass


@pytest.mark.parametrize(("holder", "other"), [("kept", dropping), ("dropping", kept), ("dropping", dropping)])
def test_nobody_drops_packs_while_somebody_needs_them(tmp_path, holder, other):
    with Holder(tmp_path, holder):
        inside, thread = entered(other(tmp_path))
        assert not inside.wait(0.1)
    thread.join(30)
    assert inside.is_set()


def test_one_process_collects_garbage_at_a_time(tmp_path):
    with Holder(tmp_path, "alone", '{"wait": true}'):
        with alone(tmp_path, wait=False) as free:
            assert not free
        inside, thread = entered(alone(tmp_path, wait=True))
        assert not inside.wait(0.1)
    thread.join(30)
    assert inside.is_set()
    with alone(tmp_path, wait=False) as free:
        assert free


def test_collecting_keeps_nobody_from_using_packs(tmp_path):
    with Holder(tmp_path, "alone", '{"wait": true}'), kept(tmp_path), alone(tmp_path, wait=False) as free:
        assert not free


def test_a_lock_goes_with_its_process(tmp_path):
    with Holder(tmp_path, "alone", '{"wait": true}') as process:
        process.kill()
        process.wait()
        with alone(tmp_path, wait=False) as free:
            assert free


def test_a_store_that_cannot_be_written_needs_no_lock(tmp_path):
    (tmp_path / "file").write_bytes(b"")
    with kept(tmp_path / "file"), dropping(tmp_path / "file"), alone(tmp_path / "file", wait=False) as free:
        assert free


def test_a_file_system_without_locks_is_used_without_but_nothing_is_dropped(tmp_path, monkeypatch):
    def refuse(*_):
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr(fcntl, "flock", refuse)
    with kept(tmp_path), file_lock(tmp_path / "some.lock"):
        pass
    for lock in (alone(tmp_path, wait=True), alone(tmp_path, wait=False), dropping(tmp_path)):
        with pytest.raises(StoreError, match=r"cannot lock .*: No locks available") as raised, lock:
            pytest.fail("no lock was held")
        assert "locks" in raised.value.hint
