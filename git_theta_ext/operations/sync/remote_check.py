"""Find the parameters of branches and tags that a remote lacks, for ``git theta fsck --remote``."""

from __future__ import annotations

from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING

from git_theta_ext.errors import ThetaError, UsageError
from git_theta_ext.operations.distribution import remote_workers
from git_theta_ext.operations.history.status import push_remote
from git_theta_ext.operations.history.versions import versions
from git_theta_ext.operations.sync.outgoing import reachable, tips_of
from git_theta_ext.operations.sync.push_refs import history_updates
from git_theta_ext.operations.sync.remotes import push_addresses, remote_place, try_remotes
from git_theta_ext.records import dataclass, replace
from git_theta_ext.transfer.outgoing import keep
from git_theta_ext.transfer.remote_index import read_remote_index
from git_theta_ext.transfer.verify import verified
from git_theta_ext.util.threads import no_progress

if TYPE_CHECKING:
    from collections.abc import Iterator

    from git_theta_ext.cluster.jobs import Workers
    from git_theta_ext.model.tensor import Digest
    from git_theta_ext.operations.history.versions import Version
    from git_theta_ext.operations.workspace import Workspace
    from git_theta_ext.store.store import Store
    from git_theta_ext.transfer.places import RemotePlace
    from git_theta_ext.transfer.remote_index import OpenedRemote
    from git_theta_ext.util.reporter import Progress


@dataclass(frozen=True)
class Lacking:
    """A version of a checkpoint that is incomplete on a remote.

    Attributes:
        remote: The remote.
        version: The version.
        parameters: Number of its parameters that the remote lacks or has in damaged packs only.
        damaged: Number of these parameters that the remote has in damaged packs.
        lost: Number of these parameters that are neither here nor on another remote.
    """

    remote: OpenedRemote
    version: Version
    parameters: int
    damaged: int
    lost: int


def check_remote(
    workspace: Workspace, name: str | None, *, full: bool, advance: Progress = no_progress
) -> tuple[list[OpenedRemote], int, list[Lacking]]:
    """Check that a remote has all parameters that branches and tags name.

    Args:
        workspace: The repository and its store.
        name: A git remote or its address; None for the remote that git pushes to by default.
        full: Whether to download the parameters and verify their digests.
        advance: Called with the number of bytes verified, as the check goes on.

    Returns:
        The stores of the remote, the number of versions that were checked, and the incomplete versions.

    Raises:
        UsageError: The repository has no remote.
        RemoteError: The remote cannot be reached.
        ClusterError: The workers cannot run a job.
    """
    repo = workspace.repo
    remote = name or push_remote(repo)
    if remote is None:
        raise UsageError("there is no remote to check", hint="git remote add origin URL")
    tips = tips_of(history_updates(repo, remote, every=True))
    reached = set(reachable(repo, tips, ())) if tips else set()
    wanted = [version for version in versions(repo) if version.oid in reached]
    digests = {digest for version in wanted for digest, _ in version.manifest.digests()}
    places = {
        place.shown: place for at in push_addresses(repo, remote) for place in [remote_place(workspace, remote, at)]
    }
    remotes = {url: place.opened(repo) for url, place in places.items()}
    incomplete = []
    for url, opened in remotes.items():
        listed, sound = _held(workspace.store, opened, digests)
        if full:
            with _jobs(workspace, places[url]) as jobs:
                sound = verified(workspace.store, opened, listed, download=True, jobs=jobs, advance=advance)
        elsewhere = _elsewhere(workspace, opened, digests - sound)
        for version in wanted:
            named = [p.digest for p in version.manifest.parameters.values()] or [version.manifest.skeleton.digest]
            absent = [digest for digest in named if digest not in sound]
            if absent or version.manifest.skeleton.digest not in sound:
                damaged = sum(digest in listed for digest in absent)
                lost = sum(digest not in elsewhere for digest in absent)
                incomplete.append(Lacking(opened, version, len(absent), damaged, lost))
    return list(remotes.values()), len(wanted), incomplete


@contextmanager
def _jobs(workspace: Workspace, place: RemotePlace) -> Iterator[tuple[Workers, RemotePlace] | None]:
    """Give workers that download from a remote, if it is the one that jobs exchange tensors through."""
    if workspace.settings.cluster_remote != place.name:
        yield None
        return
    with remote_workers(workspace, place) as workers:
        yield workers, place


def _held(store: Store, remote: OpenedRemote, digests: set[Digest]) -> tuple[set[Digest], set[Digest]]:
    """Return the digests that a remote lists, and those that no known damage affects."""
    index = read_remote_index(store, remote)
    packs = index.packs | index.damaged
    if keep(remote, packs) != packs:
        index = read_remote_index(store, remote)
    return replace(index, packs=index.packs | index.damaged).held(digests), index.held(digests)


def _elsewhere(workspace: Workspace, opened: OpenedRemote, digests: set[Digest]) -> set[Digest]:
    missing = workspace.store.touch_and_find_missing(digests) if digests else set()
    available = digests - missing
    for source in try_remotes(workspace)[0] if missing else ():
        if source.url != opened.url:
            with suppress(ThetaError):
                available |= read_remote_index(workspace.store, source).held(digests)
    return available
