"""Which packs may be dropped here, since a remote holds all that is in them."""

from __future__ import annotations

import time
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from git_theta_ext.errors import CorruptError, UsageError
from git_theta_ext.git.objects import named_digests
from git_theta_ext.git.worktrees import worktrees
from git_theta_ext.operations.history.status import push_remote
from git_theta_ext.operations.history.versions import versions
from git_theta_ext.operations.sync.remotes import fetch_address, local_path, open_remote
from git_theta_ext.store.locations import in_packs
from git_theta_ext.store.packs.reader import read_pack_header

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from collections.abc import Set as AbstractSet

    from git_theta_ext.git.repository import Repository
    from git_theta_ext.model.tensor import Digest
    from git_theta_ext.operations.workspace import Workspace
    from git_theta_ext.store.packs.format import PackHeader
    from git_theta_ext.store.store import Store
    from git_theta_ext.transfer.remote_index import OpenedRemote

_DAY = 24 * 3600


@dataclass(frozen=True)
class Prune:
    """What can be dropped and why the rest stays.

    Attributes:
        drop: Names of packs, what leans on others before these.
        needed: Names of packs that checkouts, unpushed commits or kept packs need.
        unverified: Names of the other packs that the remote does not hold for sure.
    """

    drop: tuple[str, ...]
    needed: frozenset[str]
    unverified: frozenset[str]


def prune_place(workspace: Workspace, name: str | None) -> OpenedRemote:
    """Open the remote that is to hold what is dropped here.

    Args:
        workspace: The repository and its store.
        name: Of a git remote; the one that is pushed to where None.

    Raises:
        UsageError: There is none, or it keeps its parameters in the store of this repository.
        ThetaError: It cannot be opened.
    """
    repo = workspace.repo
    remote = name or push_remote(repo)
    if remote is None or remote not in workspace.settings.git_remotes:
        what = f"there is no remote {name!r}" if name else "no remote holds what would be dropped"
        raise UsageError(what, hint="git remote add NAME URL, then git push NAME, then git theta prune --remote NAME")
    place = open_remote(workspace, remote, fetch_address(repo, remote))
    folder = local_path(place.url)
    if folder is not None and any(
        _same(Path(folder) / part, workspace.store.root / part) for part in (".", "packs")
    ):  # what is dropped here would be gone there
        raise UsageError(
            f"{remote} keeps its parameters in the store of this repository, {folder}",
            hint="git theta prune --remote NAME",
        )
    return place


def _same(one: Path, other: Path) -> bool:
    try:
        return one.samefile(other)
    except OSError:
        return False


def needed_here(repo: Repository, remote: str, recent_days: int = 0) -> set[Digest]:
    """Return what the work trees, their indexes, and commits that a remote does not have name.

    Args:
        repo: The repository, with all its work trees.
        remote: Name of the git remote.
        recent_days: Versions committed in that many days count as well.

    Raises:
        RepositoryError: Git cannot walk the history.
    """
    heads = [listed.head for listed in worktrees(repo) if listed.head is not None]
    plain = ("rev-list", "--objects", "--no-object-names", "--missing=allow-promisor")
    oids = repo.run(*plain, "--no-walk", "--indexed-objects", *heads).decode().split()
    oids += repo.run(*plain, "--all", "--not", f"--remotes={remote}").decode().split()
    if recent_days:
        since = time.time() - recent_days * _DAY
        oids += [version.oid for version in versions(repo) if version.time >= since]
    return named_digests(repo, oids)


def local_packs(store: Store) -> dict[str, PackHeader]:
    """Return the packs of this store, without its alternates and without those whose header is damaged."""
    found = {}
    for root, path in store.pack_files():
        if root == store.root:
            with suppress(CorruptError, FileNotFoundError):  # fsck names it
                found[path.name] = read_pack_header(path)
    return found


def plan_prune(packs: Mapping[str, PackHeader], needed: AbstractSet[Digest], safe: AbstractSet[Digest]) -> Prune:
    """Decide which packs can go.

    A pack stays if anything in it is needed here or is not safe on the remote, or if a pack that stays leans on it.

    Args:
        packs: By name.
        needed: Digests that must stay.
        safe: Digests that the remote holds, with all that they lean on there.
    """
    locations = {digest: {at.pack for at in several} for digest, several in in_packs(packs).items()}
    leans_on = {
        name: {at for entry in header.entries for base in entry.bases for at in locations.get(base, ())} - {name}
        for name, header in packs.items()
    }
    unsafe = {name for name, header in packs.items() if any(entry.digest not in safe for entry in header.entries)}
    wanted = {name for digest in needed for name in locations.get(digest, ())}
    stays = set(unsafe | wanted)
    todo = set(stays)
    while todo:
        todo = {other for name in todo for other in leans_on[name]} - stays
        stays |= todo
    drop = _dependants_first(set(packs) - stays, leans_on)
    return Prune(tuple(drop), frozenset(stays - (unsafe - wanted)), frozenset(unsafe - wanted))


def _dependants_first(names: set[str], leans_on: Mapping[str, AbstractSet[str]]) -> Sequence[str]:
    order: list[str] = []
    waiting = set(names)
    while waiting:
        leaned_on = {other for name in waiting for other in leans_on[name]}
        # Two packs may lean on each other, each with another tensor: then neither can be first.
        free = sorted(waiting - leaned_on) or sorted(waiting)
        order += free
        waiting -= set(free)
    return order
