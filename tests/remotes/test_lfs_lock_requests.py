"""The locks of an LFS server: requests that fail, and settings."""

from __future__ import annotations

import json
import subprocess
from typing import TYPE_CHECKING

import pytest
from benchmarks.faults import Fault

from git_theta_ext.errors import RemoteError
from git_theta_ext.git.repository import Repository
from git_theta_ext.interfaces import RemoteContext
from git_theta_ext.interfaces.locks import LockingRemote
from git_theta_ext.testing import LocksTests
from git_theta_plugins.remotes import _attempts
from git_theta_plugins.remotes._git_settings import GitSettings
from git_theta_plugins.remotes.lfs import open_remote

if TYPE_CHECKING:
    from collections.abc import Callable

    from git_theta_ext.interfaces import Locks

MAIN = "refs/heads/main"


@pytest.fixture
def opened(host, url, tmp_path, monkeypatch) -> Callable[[str], Locks]:
    """Return what opens the locks for a user, whose requests are repeated at once."""
    monkeypatch.setattr(_attempts, "backoff", lambda *_: 0.01)
    host.user, host.others = ("ada", "pw"), {"bob": "pw"}
    subprocess.run(["git", "init", "-q", str(tmp_path / "local")], check=True)

    def opened(user: str) -> Locks:
        address = url.replace("http://", f"http://{user}:pw@")
        remote = open_remote(address, {}, RemoteContext("origin", address, Repository.discover(tmp_path / "local")))
        assert isinstance(remote, LockingRemote)
        return remote.locks()

    return opened


@pytest.fixture
def locks(opened) -> Locks:
    """Return the locks of Ada."""
    return opened("ada")


class TestLfsLocks(LocksTests):
    @pytest.fixture
    def ours(self, locks):
        return locks

    @pytest.fixture
    def theirs(self, opened):
        return opened("bob")


def test_requests_are_repeated_and_what_an_answer_got_lost_of_is_done_once(host, locks):
    host.faults = [Fault("/locks$", 503, {"Retry-After": "0"}), Fault("/unlock$", cut_down=3)]
    lock = locks.lock("a.pt", MAIN)
    assert lock.owner == "ada"
    assert locks.lock("a.pt", MAIN) is None
    assert locks.unlock(lock.id, MAIN, force=False)
    assert host.locks.held() == {}
    assert not locks.unlock(lock.id, MAIN, force=False)
    host.faults = [Fault("/locks$", cut_down=3)]
    assert locks.lock("a.pt", MAIN) is None  # the lock of the first try
    assert [one.path for one in locks.verify(MAIN).ours] == ["a.pt"]


def test_pages_are_read_to_their_end_or_the_limit(host, locks):
    host.locks.page = 2
    for number in range(5):
        host.locks.lock(f"{number}.pt", "bob" if number % 2 else "ada")
    held = locks.verify(MAIN)
    assert ([one.path for one in held.ours], len(held.theirs)) == (["0.pt", "2.pt", "4.pt"], 2)
    asked = len(host.log)
    assert len(locks.find(MAIN, path=None, name=None, limit=3)) == 3
    assert len(host.log) - asked == 2
    assert [one.path for one in locks.find(None, path=None, name="lock-4", limit=None)] == ["3.pt"]


@pytest.mark.parametrize("status", [404, 405, 501])
def test_some_statuses_mean_that_there_are_no_locks(host, locks, status):
    host.faults = [Fault("/locks", status, times=9)]
    assert locks.verify(MAIN) is None
    with pytest.raises(RemoteError, match=f"the LFS server has no locks .status {status}"):
        locks.lock("a.pt", MAIN)
    with pytest.raises(RemoteError, match="has no locks"):
        locks.find(MAIN, path=None, name=None, limit=None)


def test_a_user_without_permission_is_told_how_to_push_without_a_check(host, locks):
    host.locks.readers = {"ada"}
    with pytest.raises(RemoteError, match="status 403, with the address of the remote") as refusal:
        locks.verify(MAIN)
    assert refusal.value.hint.startswith(f"git config lfs.{host.url}/models.git/info/lfs.locksverify false")
    assert "pw" not in refusal.value.hint
    host.faults = [Fault("/verify", 500, times=9)]
    with pytest.raises(RemoteError, match="tried 6 times") as failure:
        locks.verify(MAIN)
    assert failure.value.hint == refusal.value.hint


@pytest.mark.parametrize(
    "answer", [{"ours": 3}, {"ours": [], "theirs": [{"id": "1"}]}, {"ours": [], "theirs": [], "next_cursor": "again"}]
)
def test_answers_that_break_the_protocol_are_refused(host, locks, monkeypatch, answer):
    monkeypatch.setattr(host.locks, "respond", lambda *_: (200, json.loads(json.dumps(answer))))
    with pytest.raises(RemoteError, match=r"locks|does not end"):
        locks.verify(MAIN)
    assert len(host.log) < 4


@pytest.mark.parametrize(
    ("own", "tracked", "checked"),
    [
        ((), (), None),
        ((("lfs.locksverify", "false"),), (), False),
        ((("lfs.https://host/.locksverify", "true"), ("lfs.locksverify", "false")), (), True),
        ((("lfs.https://other/.locksverify", "false"),), (), None),
        ((), (("lfs.locksverify", "true"),), True),
        ((("lfs.https://host/team/models.git/info/lfs.locksverify", "no"),), (("lfs.locksverify", "true"),), False),
    ],
)
def test_settings_say_whether_locks_are_checked(own, tracked, checked):
    settings = GitSettings(own, tracked)
    assert settings.locks_verify("https://host/team/models.git/info/lfs") is checked
