"""Lock files on a server: what a remote has besides ``Remote`` if others can be kept from changing a file."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol, runtime_checkable

if TYPE_CHECKING:
    from git_theta_ext.protocol.lfs.locks import FileLock, HeldLocks


class Locks(Protocol):
    """The locks of a repository.

    A lock belongs to a path, relative to the top of the repository, and to a user. Servers may keep the locks of each
    ref apart: ``ref`` is the full name of the ref on the server that changes of the file are pushed to, or None.

    Every method raises ``RemoteError`` if the server cannot be reached or refuses.
    """

    @property
    def checked(self) -> bool | None:
        """Whether pushes check locks, by the settings of the user.

        If True, a push that cannot check them is refused. If None, which is the default, it goes on with a warning.
        """
        ...

    def lock(self, path: str, ref: str | None) -> FileLock | None:
        """Lock a file; returns None if it is locked already, by whomever.

        Raises:
            RemoteError: Among others, the server has no locks.
        """
        ...

    def unlock(self, name: str, ref: str | None, *, force: bool) -> bool:
        """Remove a lock.

        Args:
            name: The ``FileLock.id``.
            ref: See above.
            force: Whether to remove the lock of another user.

        Returns:
            Whether there was such a lock.
        """
        ...

    def find(self, ref: str | None, *, path: str | None, name: str | None, limit: int | None) -> list[FileLock]:
        """List locks.

        Args:
            ref: See above.
            path: If not None, only the lock of this file is listed.
            name: If not None, only the lock with this ``FileLock.id`` is listed.
            limit: The largest number of locks; None for all.

        Raises:
            RemoteError: Among others, the server has no locks.
        """
        ...

    def verify(self, ref: str | None) -> HeldLocks | None:
        """Return all locks, and which of them the user holds; None if the server has no locks."""
        ...


@runtime_checkable
class LockingRemote(Protocol):
    """A remote whose server has locks."""

    def locks(self) -> Locks:
        """Return the locks."""
        ...
