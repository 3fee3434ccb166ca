"""Lock files on the server of a git remote, so that nobody else pushes changes of them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from git_theta_ext.errors import LockedError, RemoteError, RepositoryError, ThetaError, UsageError
from git_theta_ext.git.changed_paths import changed_paths
from git_theta_ext.git.revisions import head_of, pushed_ref
from git_theta_ext.interfaces.locks import LockingRemote
from git_theta_ext.operations.history.status import push_remote
from git_theta_ext.operations.sync.remotes import open_remote, push_addresses
from git_theta_ext.records import dataclass
from git_theta_ext.util.quoting import shell_word
from git_theta_ext.util.text import redacted, shortlist

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from git_theta_ext.interfaces import FileLock, HeldLocks, Locks
    from git_theta_ext.operations.sync.lock_paths import Selection
    from git_theta_ext.operations.workspace import Workspace


@dataclass(frozen=True)
class Taken:
    """A lock that the user holds, and whether it is new."""

    lock: FileLock
    new: bool


@dataclass(frozen=True)
class RemoteLocks:
    """The locks on the server of a git remote.

    Attributes:
        workspace: The local repository.
        name: Name of the git remote, or its address without credentials.
        locks: What the remote's plug-in has.
        ref: Full name of the ref on the remote that the current branch is pushed to; None without a branch.
    """

    workspace: Workspace
    name: str
    locks: Locks
    ref: str | None

    @classmethod
    def open(cls, workspace: Workspace, name: str | None) -> RemoteLocks:
        """Open the locks of a git remote, by default of the one that ``git push`` uses.

        Of several addresses that git pushes to, the first one with locks counts.

        Raises:
            UsageError: There is no remote, or its parameters are not on a server with locks.
            ThetaError: See ``open_remote``.
        """
        remote = name or push_remote(workspace.repo)
        if remote is None:
            raise UsageError("there is no remote with locks", hint="git remote add origin URL")
        addresses, ref = push_addresses(workspace.repo, remote), pushed_ref(workspace.repo, remote)
        locks = _locks_by_address(workspace, remote, addresses)
        address = next((one for one in locks if len(locks) > 1 and _has_locks(locks[one], ref)), next(iter(locks)))
        if len(addresses) > 1:
            workspace.reporter.note(
                f"{redacted(remote)} has {len(addresses)} addresses to push to;"
                f" these are the locks of {redacted(address)}"
            )
        return cls(workspace, redacted(remote), locks[address], ref)

    def held(self) -> HeldLocks:
        """Return all locks.

        Raises:
            RemoteError: The server has no locks.
        """
        held = self.locks.verify(self.ref)
        if held is None:
            raise RemoteError(f"the Git LFS server of {self.name} has no locks")
        return held

    def listed(
        self, *, path: str | None, name: str | None, limit: int | None, verify: bool
    ) -> tuple[list[FileLock], frozenset[FileLock]]:
        """List locks, and with ``verify`` also which of them the user holds.

        Args:
            path: If not None, only the lock of this file.
            name: If not None, only the lock with this id.
            limit: The largest number of locks; None for all.
            verify: Whether to ask who the user is.

        Raises:
            RemoteError: The server refuses, or has no locks.
        """
        if not verify:
            return self.locks.find(self.ref, path=path, name=name, limit=limit), frozenset()
        held = self.held()
        found = [lock for lock in (*held.ours, *held.theirs) if path in {None, lock.path} and name in {None, lock.id}]
        return found[:limit], frozenset(held.ours)

    def lock(self, paths: Sequence[str]) -> list[Taken]:
        """Lock all of some files or none.

        Raises:
            LockedError: Another user holds one of the locks.
            RemoteError: The server refuses, or has no locks.
        """
        taken: list[Taken] = []
        held: HeldLocks | None = None
        try:
            for path in paths:
                if (made := self.locks.lock(path, self.ref)) is not None:
                    taken.append(Taken(made, new=True))
                else:
                    held = held or self.held()
                    taken.append(Taken(self._own(path, paths, held), new=False))
        except (ThetaError, KeyboardInterrupt):
            self._release(one.lock for one in taken if one.new)
            raise
        return taken

    def unlock(self, selection: Selection, *, force: bool) -> list[FileLock]:
        """Remove the locks of files.

        Args:
            selection: Files that were named must be locked; of the others those count that are.
            force: Whether to remove the locks of other users, and of files with changes that are not committed.

        Raises:
            LockedError: Another user holds one of the locks.
            UsageError: A file is not locked.
            RepositoryError: A file has changes.
        """
        held = self.held()
        by_path = {lock.path: lock for lock in (*held.theirs, *held.ours)}
        for path in selection.named:
            if path not in by_path:
                raise UsageError(
                    f"{self._shown(path)} is not locked on {self.name}", hint="git theta locks lists locks"
                )
        wanted = dict.fromkeys((*selection.named, *(path for path in selection.matched if path in by_path)))
        if not wanted:
            raise UsageError(f"no checkpoint of these is locked on {self.name}", hint="git theta locks lists locks")
        return self._remove([by_path[path] for path in wanted], held, force=force)

    def unlock_by_id(self, name: str, *, force: bool) -> list[FileLock]:
        """Remove a lock by its id.

        Raises:
            ThetaError: See ``unlock``.
        """
        held = self.held()
        found = [lock for lock in (*held.ours, *held.theirs) if lock.id == name]
        if not found:
            raise UsageError(f"there is no lock {name} on {self.name}", hint="git theta locks lists locks")
        return self._remove(found, held, force=force)

    def unpushed(self, locks: Iterable[FileLock]) -> list[str]:
        """Return the paths of locks whose changes are not on the remote, as of the last fetch or push."""
        repo = self.workspace.repo
        head = head_of(repo)
        if head is None or self.name not in repo.config.git_remotes:
            return []
        return sorted({lock.path for lock in locks} & changed_paths(repo, [head], [], self.name))

    def refusal(self, locks: Sequence[FileLock], what: str) -> LockedError:
        """Return the error for files that other users have locked.

        Args:
            locks: Their locks, at least one.
            what: What cannot be done.
        """
        paths = " ".join(self.workspace.repo.argument(lock.path) for lock in locks)
        force = f"git theta unlock --force {self._remote_argument}{paths}"
        return LockedError(
            f"{what}: {shortlist(self._described(lock) for lock in locks)}",
            hint=f"ask the owner to run git theta unlock, or remove the lock: {force}",
        )

    @property
    def _remote_argument(self) -> str:
        """The option of a command that names the remote, unless it is the default."""
        return "" if self.name == push_remote(self.workspace.repo) else f"--remote {shell_word(self.name)} "

    def _own(self, path: str, wanted: Iterable[str], held: HeldLocks) -> FileLock:
        """Return the user's own lock of a path."""
        ours = next((lock for lock in held.ours if lock.path == path), None)
        if ours is not None:
            return ours
        theirs = [lock for lock in held.theirs if lock.path in set(wanted)]
        if not theirs:
            raise LockedError(f"{self._shown(path)} is locked on {self.name}", hint="git theta locks lists locks")
        raise self.refusal(theirs, "nothing is locked, as others have locked files")

    def _release(self, locks: Iterable[FileLock]) -> None:
        """Remove locks after a failure."""
        for lock in locks:
            try:
                self.locks.unlock(lock.id, self.ref, force=False)
            except RemoteError as error:  # noqa: PERF203 - rare
                command = f"git theta unlock --force {self._remote_argument}{self.workspace.repo.argument(lock.path)}"
                self.workspace.reporter.warning(f"{self._shown(lock.path)} is still locked: {error.message}", command)

    def _remove(self, locks: Sequence[FileLock], held: HeldLocks, *, force: bool) -> list[FileLock]:
        theirs = [lock for lock in locks if lock in held.theirs]
        if not force:
            if theirs:
                raise self.refusal(theirs, "other users hold these locks")
            self._refuse_changed([lock.path for lock in locks])
        for lock in locks:
            self.locks.unlock(lock.id, self.ref, force=lock in theirs)
        return list(locks)

    def _refuse_changed(self, paths: Iterable[str]) -> None:
        repo = self.workspace.repo
        specs = [f":(top,literal){path}" for path in paths]
        changed = repo.run("status", "--porcelain", "-z", "--no-renames", "--untracked-files=no", "--", *specs)
        if changed:
            path = changed.split(b"\0")[0][3:].decode(errors="surrogateescape")
            arguments = f"{self._remote_argument}{repo.argument(path)}"
            raise RepositoryError(
                f"{self._shown(path)} has changes that are not committed; whoever locks it next would not have them",
                hint=f"git commit, and then git push; if that is not wanted: git theta unlock --force {arguments}",
            )

    def _described(self, lock: FileLock) -> str:
        since = f" since {lock.locked_at}" if lock.locked_at else ""
        return f"{self._shown(lock.path)}, locked by {lock.owner or 'another user'}{since}"

    def _shown(self, path: str) -> str:
        return self.workspace.repo.shown(path)


def _locks_by_address(workspace: Workspace, remote: str, addresses: Sequence[str]) -> dict[str, Locks]:
    """Open the locks at those addresses whose kind of remote has locks, at least one.

    Raises:
        UsageError: No address has locks.
        ThetaError: See ``open_remote``; no address has locks, and this one could not be opened.
    """
    found: dict[str, Locks] = {}
    urls: list[str] = []
    failures: list[ThetaError] = []
    for address in addresses:
        try:
            opened = open_remote(workspace, remote, address)
        except ThetaError as error:
            failures.append(error)
            continue
        urls.append(opened.url)
        if isinstance(opened.plugin, LockingRemote):
            found[address] = opened.plugin.locks()
    if found:
        return found
    if failures:
        raise failures[0]
    raise UsageError(
        f"{redacted(remote)} has no locks, as it stores parameters at {shortlist(urls)}; Git LFS servers have locks",
        hint="git theta locks --remote REMOTE, with a git remote that stores parameters on its Git LFS server",
    )


def _has_locks(locks: Locks, ref: str | None) -> bool:
    """Return whether a server has locks. One that cannot be asked counts, as the locks must not move meanwhile."""
    try:
        return locks.verify(ref) is not None
    except RemoteError:
        return True
