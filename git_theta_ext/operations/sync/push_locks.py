"""Stop a push whose commits change a file that another user has locked."""

from __future__ import annotations

from collections import defaultdict
from typing import TYPE_CHECKING

from git_theta_ext.errors import LockedError, RemoteError
from git_theta_ext.git.changed_paths import changed_paths
from git_theta_ext.interfaces.locks import LockingRemote
from git_theta_ext.records import dataclass

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from git_theta_ext.interfaces import FileLock
    from git_theta_ext.operations.sync.outgoing import RefUpdate
    from git_theta_ext.operations.sync.push import Push
    from git_theta_ext.transfer.remote_index import OpenedRemote

_MOST_REFS = 16


@dataclass(frozen=True)
class LockCheck:
    """The locks that a push meets.

    Attributes:
        ours: Paths that the push changes and the user has locked.
        failure: Why the locks could not be checked.
    """

    ours: tuple[str, ...] = ()
    failure: RemoteError | None = None


def check_locks(push: Push, opened: OpenedRemote) -> LockCheck:
    """Compare the files that the commits of a push change with the locks on its remote.

    Raises:
        LockedError: Another user has locked one of the files, or the user wants a check that failed.
    """
    if not isinstance(opened.plugin, LockingRemote):
        return LockCheck()
    locks = opened.plugin.locks()
    if locks.checked is False:
        return LockCheck()
    ours: set[str] = set()
    for ref, updates in _by_ref(push.updates).items():
        try:
            held = locks.verify(ref)
        except RemoteError as error:
            if locks.checked:
                raise LockedError(f"the locks of files cannot be checked: {error.message}", hint=error.hint) from error
            return LockCheck(tuple(sorted(ours)), error)
        if held is None:
            break
        if not held.theirs and not held.ours:
            continue
        changed = _changed(push, updates, held.theirs)
        if theirs := [lock for lock in held.theirs if lock.path in changed]:
            from git_theta_ext.operations.sync.file_locks import RemoteLocks  # not needed by other pushes

            table = RemoteLocks(push.workspace, push.shown, locks, ref)
            raise table.refusal(theirs, "the pushed commits change files that other users have locked")
        ours |= changed & {lock.path for lock in held.ours}
    return LockCheck(tuple(sorted(ours)))


def _by_ref(updates: Iterable[RefUpdate]) -> dict[str | None, list[RefUpdate]]:
    """Return the refs of the remote whose locks are asked for, and what is pushed to each."""
    groups: dict[str | None, list[RefUpdate]] = defaultdict(list)
    for update in updates:
        if update.local_oid.strip("0"):
            groups[update.remote_ref].append(update)
    if len(groups) > _MOST_REFS:  # as of a mirror: one request is for the locks of all refs
        return {None: [update for group in groups.values() for update in group]}
    return groups


def _changed(push: Push, updates: Sequence[RefUpdate], theirs: Iterable[FileLock]) -> set[str]:
    """Return the paths that pushed commits change."""
    tips = [update.local_oid for update in updates]
    excluded = [update.remote_oid for update in updates]
    changed = changed_paths(push.repo, tips, excluded, push.remote)
    if changed.isdisjoint(lock.path for lock in theirs):
        return changed
    # Remote-tracking branches may be old, and a push by address has none.
    listed = push.repo.run("ls-remote", "--", push.address, check=False).decode(errors="replace")
    excluded += [line.partition("\t")[0] for line in listed.splitlines()]
    return changed_paths(push.repo, tips, excluded, push.remote)
