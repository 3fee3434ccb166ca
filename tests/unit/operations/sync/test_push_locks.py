"""Which locks stop a push, with a remote whose locks a test makes."""

from __future__ import annotations

import subprocess
from dataclasses import dataclass, field

import pytest
from reports import Reports

from git_theta_ext.errors import LockedError, RemoteError
from git_theta_ext.operations.sync.outgoing import RefUpdate
from git_theta_ext.operations.sync.push import Push
from git_theta_ext.operations.sync.push_locks import LockCheck, check_locks
from git_theta_ext.operations.workspace import Workspace
from git_theta_ext.protocol.lfs.locks import FileLock, HeldLocks
from git_theta_ext.transfer.remote_index import OpenedRemote

ZERO = "0" * 40
DENIED = RemoteError("the user may not do that", hint="git config lfs.locksverify false")


@dataclass
class Server:
    """Locks, and the refs that were asked about; ``answer`` replaces the answer."""

    theirs: tuple[str, ...] = ()
    ours: tuple[str, ...] = ()
    checked: bool | None = None
    answer: Exception | None = None
    supported: bool = True
    asked: list[str | None] = field(default_factory=list)

    def locks(self):
        return self

    def verify(self, ref):
        self.asked.append(ref)
        if self.answer is not None:
            raise self.answer
        if not self.supported:
            return None
        made = [tuple(FileLock(path, path, who, "") for path in paths) for who, paths in self._sides()]
        return HeldLocks(*made)

    def _sides(self):
        return (("me", self.ours), ("bob", self.theirs))


class History:
    """A repository of small text files, and a remote beside it."""

    def __init__(self, path):
        self.path = path
        path.mkdir()
        self.git("init", "-q", "-b", "main")
        self.git("init", "-q", "--bare", "../origin.git")
        self.git("remote", "add", "origin", "../origin.git")

    def git(self, *args):
        return subprocess.run(["git", *args], cwd=self.path, capture_output=True, text=True, check=True).stdout.strip()

    def commit(self, *paths):
        for path in paths:
            (self.path / path).write_text(f"{path} {self.git('rev-list', '--all', '--count')}")
        self.git("add", "-A")
        self.git("commit", "-qm", "a commit")
        return self.git("rev-parse", "HEAD")

    def check(self, server, *updates, there=ZERO, remote="origin"):
        head = self.git("rev-parse", "HEAD")
        sent = updates or (RefUpdate("refs/heads/main", head, "refs/heads/main", there),)
        with Workspace.discover(Reports(), self.path) as workspace:
            push = Push(workspace, remote, str(self.path.parent / "origin.git"), sent)
            return check_locks(push, OpenedRemote("origin", "https://host", server))


@pytest.fixture
def history(tmp_path):
    made = History(tmp_path / "top")
    made.commit("a", "b", "c")
    return made


def test_files_that_the_pushed_commits_change_count(history):
    before = history.git("rev-parse", "HEAD")
    history.commit("a")
    with pytest.raises(LockedError, match="a, locked by bob"):
        history.check(Server(("a",)), there=before)
    assert history.check(Server(("b",), ("a", "c")), there=before) == LockCheck(("a",))
    with pytest.raises(LockedError, match="b, locked by bob"):
        history.check(Server(("b",)))
    history.git("rm", "-q", "c")
    history.commit()
    with pytest.raises(LockedError, match="c, locked by bob") as refusal:
        history.check(Server(("c",)), there=before)
    assert "git theta unlock --force c" in refusal.value.hint


def test_what_the_remote_has_already_does_not_count(history):
    history.git("push", "-q", "origin", "main")
    history.git("checkout", "-q", "-b", "side")
    history.commit("b")
    assert history.check(Server(("a", "c"))) == LockCheck()
    # A push by address has no remote-tracking branches.
    assert history.check(Server(("a", "c")), remote=str(history.path.parent / "origin.git")) == LockCheck()


def test_what_a_merge_takes_from_a_parent_is_not_changed_by_it(history):
    base = history.git("rev-parse", "HEAD")
    history.commit("a")
    history.git("push", "-q", "origin", "main")
    history.git("checkout", "-q", "-b", "side", base)
    history.commit("b")
    history.git("merge", "-q", "--no-edit", "main")
    assert history.check(Server(("a", "c"))) == LockCheck()
    history.git("reset", "-q", "--hard", "HEAD~1")
    history.git("merge", "-q", "--no-edit", "--no-commit", "main")
    history.commit("c")
    with pytest.raises(LockedError, match="c, locked by bob"):
        history.check(Server(("a", "c")))


@pytest.mark.parametrize("checked", [None, True])
def test_a_server_without_locks_is_asked_and_stops_nothing(history, checked):
    server = Server(supported=False, checked=checked)
    assert history.check(server) == LockCheck()
    assert server.asked == ["refs/heads/main"]


def test_the_settings_decide_what_a_failure_means(history):
    assert history.check(Server(answer=DENIED)) == LockCheck((), DENIED)
    with pytest.raises(LockedError, match="the user may not do that") as refusal:
        history.check(Server(answer=DENIED, checked=True))
    assert refusal.value.hint == DENIED.hint
    silent = Server(("a",), checked=False)
    assert history.check(silent) == LockCheck()
    assert silent.asked == []


def test_each_ref_is_asked_about_and_many_refs_at_once(history):
    head = history.git("rev-parse", "HEAD")

    def pushed(count):
        return [RefUpdate("refs/heads/main", head, f"refs/heads/{number}", ZERO) for number in range(count)]

    server = Server()
    history.check(server, *pushed(2), RefUpdate("(delete)", ZERO, "refs/heads/gone", head))
    assert server.asked == ["refs/heads/0", "refs/heads/1"]
    many = Server(("a",))
    with pytest.raises(LockedError):
        history.check(many, *pushed(17))
    assert many.asked == [None]


def test_a_remote_without_locks_is_not_asked(history):
    assert history.check(object()) == LockCheck()
