"""What a remote lacks of what branches and tags name, for ``git theta fsck --remote``."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING

from git_theta_ext.errors import ThetaError, UsageError
from git_theta_ext.operations.history.status import push_remote
from git_theta_ext.operations.history.versions import versions
from git_theta_ext.operations.sync.outgoing import reachable, tips_of
from git_theta_ext.operations.sync.push_refs import history_updates
from git_theta_ext.operations.sync.remotes import open_remote, push_addresses, try_remotes
from git_theta_ext.transfer.remote_index import read_remote_index
from git_theta_ext.transfer.verify import verified
from git_theta_ext.util.threads import no_progress

if TYPE_CHECKING:
    from collections.abc import Callable

    from git_theta_ext.model.tensor import Digest
    from git_theta_ext.operations.history.versions import Version
    from git_theta_ext.operations.workspace import Workspace
    from git_theta_ext.transfer.remote_index import OpenedRemote


@dataclass(frozen=True)
class Lacking:
    """A version of a checkpoint that a remote does not hold completely.

    Attributes:
        place: The remote.
        version: The version.
        parameters: How many of its parameters are not there.
        damaged: How many of them are there, in packs that are damaged.
        lost: How many of them are neither here nor on another remote.
    """

    place: OpenedRemote
    version: Version
    parameters: int
    damaged: int
    lost: int


def check_remote(
    workspace: Workspace, name: str | None, *, full: bool, advance: Callable[[int], None] = no_progress
) -> tuple[list[OpenedRemote], int, list[Lacking]]:
    """Ask a remote for all that branches and tags name.

    Args:
        workspace: The repository and its store.
        name: A git remote or its address; the one that is pushed to where None.
        full: Download what is there, and compare its bytes with its names.
        advance: Told the bytes that were compared.

    Returns:
        Where the remote keeps parameters, how many versions were looked for, and what is lacking.

    Raises:
        UsageError: There is no remote.
        RemoteError: It cannot be reached.
    """
    repo = workspace.repo
    remote = name or push_remote(repo)
    if remote is None:
        raise UsageError("there is no remote to check", hint="git remote add origin URL")
    tips = tips_of(history_updates(repo, remote, every=True))
    reached = set(reachable(repo, tips, ())) if tips else set()
    wanted = [version for version in versions(repo) if version.oid in reached]
    digests = {digest for version in wanted for digest, _ in version.manifest.digests()}
    places = {place.url: place for at in push_addresses(repo, remote) for place in [open_remote(workspace, remote, at)]}
    found = []
    for place in places.values():
        listed = digests & read_remote_index(workspace.store, place).held()
        sound = verified(workspace.store, place, listed, download=True, advance=advance) if full else listed
        elsewhere = _elsewhere(workspace, place, digests - sound)
        for version in wanted:
            named = [p.digest for p in version.manifest.parameters.values()] or [version.manifest.skeleton.digest]
            absent = [digest for digest in named if digest not in sound]
            if absent or version.manifest.skeleton.digest not in sound:
                damaged = sum(digest in listed for digest in absent)
                lost = sum(digest not in elsewhere for digest in absent)
                found.append(Lacking(place, version, len(absent), damaged, lost))
    return list(places.values()), len(wanted), found


def _elsewhere(workspace: Workspace, place: OpenedRemote, digests: set[Digest]) -> set[Digest]:
    missing = workspace.store.touch_and_find_missing(digests) if digests else set()
    found = digests - missing
    for source in try_remotes(workspace)[0] if missing else ():
        if source.url != place.url:
            with suppress(ThetaError):
                found |= digests & read_remote_index(workspace.store, source).held()
    return found
