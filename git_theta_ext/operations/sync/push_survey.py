"""Find out what the history that is pushed needs, before anything is uploaded."""

from __future__ import annotations

from typing import TYPE_CHECKING

from git_theta_ext.errors import ThetaError
from git_theta_ext.git.partial import bring_history, promising_remotes
from git_theta_ext.operations.sync.outgoing import Outgoing, outgoing, tips_of
from git_theta_ext.operations.sync.push_locks import LockCheck, check_locks
from git_theta_ext.operations.sync.push_refs import boundary, tracked, uses_theta
from git_theta_ext.operations.sync.selection import select_history
from git_theta_ext.records import dataclass, field, replace

if TYPE_CHECKING:
    from collections.abc import Mapping
    from collections.abc import Set as AbstractSet

    from git_theta_ext.model.tensor import Digest
    from git_theta_ext.operations.sync.push import Push
    from git_theta_ext.store.store import Store
    from git_theta_ext.transfer.complete import Complete
    from git_theta_ext.transfer.remote_index import OpenedRemote


@dataclass(frozen=True)
class Survey:
    """The parameters that a push needs.

    Attributes:
        needed: The parameters; only the selected ones if a part is pushed.
        remote: The remote; it is not opened if the repository has no parameters.
        complete: What the remote is known to have.
        locks: What the push has to do with locks of files.
        others: What the history needs besides the selected part: sizes in bytes by digest.
    """

    needed: Outgoing
    remote: OpenedRemote | None = None
    complete: Complete | None = None
    locks: LockCheck = field(default_factory=LockCheck)
    others: Mapping[Digest, int] = field(default_factory=dict)


def survey(push: Push, *, strict: bool, ask: bool) -> Survey:
    """Return what a push needs beyond what the remote is known to have; open the remote only if required.

    Args:
        push: The push.
        strict: Whether git is about to send the commits.
        ask: Whether to ask the remote if what is recorded of it is still true; otherwise nothing is taken as known.

    Raises:
        ThetaError: See ``Push.run``.
    """
    surveyed = _survey(push, strict=strict, ask=ask)
    if push.part is None:
        return surveyed
    # What the remote is known to have is selected, too: a name that only earlier versions have is not wrong.
    selection = select_history(push.repo, tips_of(push.updates), push.part)
    others = {digest: size for digest, size in surveyed.needed.sizes.items() if digest not in selection.sizes}
    skeletons = surveyed.needed.skeletons | selection.skeletons
    return replace(surveyed, needed=Outgoing(selection.sizes, selection.manifests, {}, (), skeletons), others=others)


def _survey(push: Push, *, strict: bool, ask: bool) -> Survey:
    from git_theta_ext.operations.sync.remotes import open_remote

    repo, tips = push.repo, tips_of(push.updates)
    if not uses_theta(repo, tips):
        # Walking the whole history of a repository without parameters takes long and finds nothing.
        by_git = (*(update.remote_oid for update in push.updates), *tracked(repo, push.remote))
        needed = outgoing(repo, push.remote, push.updates, by_git)
        if not needed.digests:
            return Survey(needed)
    if (promising := promising_remotes(repo)) and push.remote not in promising:
        bring_history(repo, tips)
    try:
        remote = open_remote(push.workspace, push.remote, push.address)
    except ThetaError:
        needed = outgoing(repo, push.remote, push.updates)
        if needed.digests:
            raise
        return Survey(needed)
    locks = check_locks(push, remote) if strict else LockCheck()
    from git_theta_ext.transfer.complete import Complete, read_complete
    from git_theta_ext.transfer.outgoing import keep

    root, complete = repo.theta_dir, Complete(boundary=boundary(repo))
    recorded = read_complete(root, remote.url, complete.boundary)
    if ask and keep(remote, recorded.packs) == recorded.packs and not _known_bad(push.workspace.store, recorded.packs):
        complete = recorded
    return Survey(outgoing(repo, push.remote, push.updates, complete.tips), remote, complete, locks)


def _known_bad(store: Store, packs: AbstractSet[str]) -> bool:
    """Return whether one of the packs has been found damaged since a push relied on it."""
    return bool(packs) and any(name in packs for name, _ in store.verdicts.bad_entries())
