"""The conformance suite of the locks of a remote.

Subclass ``LocksTests`` in a test module and give it two fixtures: the locks as two users see them, of whom either may
unlock what the other has locked::

    class TestMyLocks(LocksTests):
        @pytest.fixture
        def ours(self, server):
            return opened(server, user="ada").locks()

        @pytest.fixture
        def theirs(self, server):
            return opened(server, user="bob").locks()
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from git_theta_ext.errors import RemoteError

if TYPE_CHECKING:
    from git_theta_ext.interfaces import FileLock, Locks

_REF = "refs/heads/main"
_ODD = "a folder/\u00e9 & ?#%2F.pt"


def _locked(locks: Locks, path: str) -> FileLock:
    lock = locks.lock(path, _REF)
    assert lock is not None
    assert lock.path == path
    return lock


class LocksTests:
    """Conformance suite; a subclass has fixtures ``ours`` and ``theirs`` for two users of a server without any lock."""

    def test_each_user_sees_whose_a_lock_is(self, ours: Locks, theirs: Locks) -> None:
        """The server knows the users."""
        lock = _locked(ours, _ODD)
        other = _locked(theirs, "b.pt")
        here, there = ours.verify(_REF), theirs.verify(_REF)
        assert here is not None
        assert there is not None
        assert (here.ours, here.theirs) == ((lock,), (other,))
        assert (there.ours, there.theirs) == ((other,), (lock,))
        assert lock.owner != other.owner

    def test_a_path_is_locked_once(self, ours: Locks, theirs: Locks) -> None:
        """Whoever asks again learns that it is locked."""
        lock = _locked(ours, _ODD)
        assert ours.lock(_ODD, _REF) is None
        assert theirs.lock(_ODD, _REF) is None
        assert ours.unlock(lock.id, _REF, force=False)
        assert not ours.unlock(lock.id, _REF, force=False)
        _locked(theirs, _ODD)

    def test_the_lock_of_another_user_is_removed_by_force_only(self, ours: Locks, theirs: Locks) -> None:
        """Without force the lock stays."""
        lock = _locked(ours, _ODD)
        with pytest.raises(RemoteError):
            theirs.unlock(lock.id, _REF, force=False)
        assert ours.find(_REF, path=None, name=None, limit=None) == [lock]
        assert theirs.unlock(lock.id, _REF, force=True)
        assert ours.find(_REF, path=None, name=None, limit=None) == []

    def test_locks_are_found_by_path_and_id(self, ours: Locks) -> None:
        """A limit counts what is found."""
        locks = [_locked(ours, path) for path in ("a.pt", _ODD, "b.pt")]
        found = ours.find(_REF, path=None, name=None, limit=None)
        assert sorted(lock.path for lock in found) == sorted(lock.path for lock in locks)
        assert ours.find(_REF, path=_ODD, name=None, limit=None) == [locks[1]]
        assert ours.find(_REF, path=None, name=locks[2].id, limit=1) == [locks[2]]
        assert ours.find(_REF, path="c.pt", name=None, limit=None) == []
        assert len(ours.find(_REF, path=None, name=None, limit=2)) == 2
