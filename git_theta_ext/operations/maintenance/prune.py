"""Find the packs that can be removed because a remote has everything in them."""

from __future__ import annotations

import time
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

from git_theta_ext.errors import CorruptError, UsageError
from git_theta_ext.git.objects import named_digests
from git_theta_ext.git.worktrees import worktrees
from git_theta_ext.operations.history.status import push_remote
from git_theta_ext.operations.history.versions import versions
from git_theta_ext.operations.sync.remotes import fetch_address, local_path, open_remote
from git_theta_ext.records import dataclass
from git_theta_ext.store.deltas.chains import MAX_CHAIN
from git_theta_ext.store.locations import flattened, in_packs, sound
from git_theta_ext.store.maintenance.copying import copies
from git_theta_ext.store.maintenance.gc import worth_copying
from git_theta_ext.store.maintenance.needs import needs_of
from git_theta_ext.store.maintenance.shrink import Shrinking, plan_shrinking, shrink
from git_theta_ext.store.packs.format import PackHeader
from git_theta_ext.store.packs.reader import read_pack_header
from git_theta_ext.store.parts import parts_behind, parts_in

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from collections.abc import Set as AbstractSet

    from git_theta_ext.git.repository import Repository
    from git_theta_ext.model.tensor import Digest
    from git_theta_ext.operations.workspace import Workspace
    from git_theta_ext.store.locations import Location
    from git_theta_ext.store.store import Store
    from git_theta_ext.transfer.remote_index import OpenedRemote

_DAY = 24 * 3600


@dataclass(frozen=True)
class Prune:
    """The packs that can be removed, and why the others are kept.

    Attributes:
        drop: Names of the packs to remove, each before the packs that it depends on.
        needed: Names of packs that checkouts, unpushed commits or kept packs need.
        unverified: Names of other packs with data that is not verified to be on the remote.
    """

    drop: tuple[str, ...]
    needed: frozenset[str]
    unverified: frozenset[str]


def prune_place(workspace: Workspace, name: str | None) -> OpenedRemote:
    """Open the remote that must have the data to be removed here.

    Args:
        workspace: The repository and its store.
        name: Name of a git remote; None for the remote that git pushes to by default.

    Raises:
        UsageError: There is no such remote, or it keeps its parameters in the store of this repository.
        ThetaError: The remote cannot be opened.
    """
    repo = workspace.repo
    remote = name or push_remote(repo)
    if remote is None or remote not in workspace.settings.git_remotes:
        message = f"there is no remote {name!r}" if name else "no remote holds what would be removed"
        raise UsageError(
            message, hint="git remote add NAME URL, then git push NAME, then git theta prune --remote NAME"
        )
    opened = open_remote(workspace, remote, fetch_address(repo, remote))
    folder = local_path(opened.url)
    if folder is not None and any(
        _same(Path(folder) / part, workspace.store.root / part) for part in (".", "packs")
    ):  # removing data here would remove it from the remote too
        raise UsageError(
            f"{remote} keeps its parameters in the store of this repository, {folder}",
            hint="git theta prune --remote NAME",
        )
    return opened


def _same(path: Path, other: Path) -> bool:
    try:
        return path.samefile(other)
    except OSError:
        return False


def needed_here(repo: Repository, remote: str, recent_days: int = 0) -> set[Digest]:
    """Return the digests named by the work trees, by their indexes, and by commits that a remote does not have.

    Args:
        repo: The repository, with all its work trees.
        remote: Name of the git remote.
        recent_days: Include versions that were committed in the last so many days.

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
    headers = {}
    for root, path in store.pack_files():
        if root == store.root:
            with suppress(CorruptError, FileNotFoundError):  # fsck reports it
                headers[path.name] = read_pack_header(path)
    return headers


@dataclass(frozen=True)
class Reasons:
    """Why entries of packs can be removed, or not.

    Attributes:
        packs: The header of each pack, by name, without the entries that are stored in another way now.
        needed: Entries that must be kept.
        safe: Entries whose tensors are on the remote, or are also in entries that are kept.
        shrinking: The bundles that are stored again without tensors that need not be kept.
    """

    packs: Mapping[str, PackHeader]
    needed: AbstractSet[Digest]
    safe: AbstractSet[Digest]
    shrinking: Shrinking = Shrinking()


def tensors_of(packs: Mapping[str, PackHeader]) -> set[Digest]:
    """Return the tensors and skeletons in some packs, alone or in bundles."""
    entries = [entry for header in packs.values() for entry in header.entries]
    return {entry.digest for entry in entries if entry.bundle is None} | parts_in(entries).keys()


def reasons(
    store: Store, named: AbstractSet[Digest], there: AbstractSet[Digest], start: float, *, dry_run: bool
) -> Reasons:
    """Find out which entries have tensors that must be kept; bundles of which most need not be are stored again.

    Args:
        store: The store.
        named: Tensors that must be kept.
        there: Other tensors that the remote has, whatever it stores them as, with all that they depend on.
        start: When the prune began, in seconds since the epoch.
        dry_run: Write nothing.

    Raises:
        StoreError: The store cannot be written; no data is lost.
    """
    packs = local_packs(store)
    kept = named | (tensors_of(packs) - there)
    bundles = (entry.bundle for header in packs.values() for entry in header.entries if entry.bundle is not None)
    members = ([digest in kept for _, _, digest in bundle.members()] for bundle in bundles)
    shrinking = Shrinking()
    if any(any(each) and not all(each) for each in members):
        needs = needs_of(store, store.with_bundles(kept), start, {}, MAX_CHAIN, frozenset())
        shrinking = plan_shrinking(store, needs, kept, start)
    if shrinking.replaced and not dry_run:
        shrink(store, shrinking)
        packs = local_packs(store)
    replaced = shrinking.replaced
    if replaced:
        packs = {
            name: PackHeader(tuple(e for e in header.entries if replaced.isdisjoint(e.bases)), header.nbytes)
            for name, header in packs.items()
        }
    needed = store.with_bundles(named, replaced) | shrinking.planned.keys()
    safe = _with_tensors_among(packs, there | _held_by(store, needed, named, replaced)) | replaced
    return Reasons(packs, needed, safe, shrinking)


def _held_by(
    store: Store, needed: AbstractSet[Digest], named: AbstractSet[Digest], without: AbstractSet[Digest]
) -> set[Digest]:
    """Return those of some tensors that this store itself has in entries which are kept."""
    sound_here = flattened(sound(store.locations(needed)))
    held = needed & {digest for digest, at in sound_here if at.root == str(store.root)}
    return {digest for digest, stored in store.stored_as(named, without=without).items() if stored in held}


def _with_tensors_among(packs: Mapping[str, PackHeader], tensors: AbstractSet[Digest]) -> set[Digest]:
    """Return the entries of some packs all of whose tensors are among some."""
    entries = [entry for header in packs.values() for entry in header.entries]
    bundles = {entry.digest: entry.bundle for entry in entries if entry.bundle is not None}
    whole = {name for name, bundle in bundles.items() if all(digest in tensors for _, _, digest in bundle.members())}
    return whole | (tensors & {entry.digest for entry in entries if entry.bundle is None})


def plan_prune(packs: Mapping[str, PackHeader], needed: AbstractSet[Digest], safe: AbstractSet[Digest]) -> Prune:
    """Decide which packs can be removed.

    A pack is kept if any tensor in it is needed here or is not safe on the remote, or if a kept pack depends on it.

    Args:
        packs: The header of each pack, by name.
        needed: Digests that must be kept.
        safe: Entries of which the remote has all tensors, together with everything that these depend on there.
    """
    locations = {digest: {at.pack for at in several} for digest, several in in_packs(packs).items()}
    behind = parts_behind([entry for header in packs.values() for entry in header.entries])
    for digest, bundles in behind.items():
        locations[digest] = {name for bundle, _ in bundles for name in locations[bundle]}
    depends_on = {
        name: {at for entry in header.entries for base in entry.bases for at in locations.get(base, ())} - {name}
        for name, header in packs.items()
    }
    unsafe = {name for name, header in packs.items() if any(entry.digest not in safe for entry in header.entries)}
    wanted = {name for digest in needed for name in locations.get(digest, ())}
    stays = set(unsafe | wanted)
    todo = set(stays)
    while todo:
        todo = {other for name in todo for other in depends_on[name]} - stays
        stays |= todo
    drop = _dependants_first(set(packs) - stays, depends_on)
    return Prune(tuple(drop), frozenset(stays - (unsafe - wanted)), frozenset(unsafe - wanted))


def reduced(
    packs: Mapping[str, PackHeader], needed: AbstractSet[Digest], safe: AbstractSet[Digest]
) -> dict[str, PackHeader]:
    """Return the packs of which a part is kept that is worth copying, with the entries of that part.

    Args:
        packs: The header of each pack, by name.
        needed: As for ``plan_prune``.
        safe: As for ``plan_prune``.
    """
    bases: dict[Digest, set[Digest]] = {}
    for header in packs.values():
        for entry in header.entries:
            bases.setdefault(entry.digest, set()).update(entry.bases)
    for digest, bundles in parts_behind([entry for header in packs.values() for entry in header.entries]).items():
        bases[digest] = {bundle for bundle, _ in bundles}
    todo = {digest for digest in bases if digest in needed or digest not in safe}
    kept: set[Digest] = set()
    while todo:
        kept |= todo
        todo = {base for digest in todo for base in bases.get(digest, ())} - kept
    parts: dict[str, PackHeader] = {}
    for name, header in packs.items():
        part = tuple(entry for entry in header.entries if entry.digest in kept)
        filled = sum(entry.stored for entry in header.entries)
        if part and worth_copying(filled - sum(entry.stored for entry in part), filled):
            parts[name] = PackHeader(part, header.nbytes)
    return parts


def copy_parts(store: Store, parts: Mapping[str, PackHeader]) -> set[str]:
    """Copy entries out of packs, which can be removed then.

    Args:
        store: The store.
        parts: Entries to copy, by pack name.

    Returns:
        The names of the packs whose entries were copied. Those with entries that are not verified are left out.

    Raises:
        StoreError: The store cannot be written.
    """
    root = str(store.root)
    held = {(root, name): {entry.digest for entry in part.entries} for name, part in parts.items()}
    found: dict[str, list[Location]] = {name: [] for name in parts}
    for digest, location in flattened(sound(store.locations(frozenset().union(*held.values())))):
        if digest in held.get(location.pack_id, ()):
            found[location.pack].append(location)
    whole = {name for name, part in parts.items() if len(found[name]) == len(part.entries)}
    chosen = [location for name in sorted(whole) for location in sorted(found[name], key=lambda at: at.entry)]
    store.write(copies(store, chosen), loose=False)
    return whole


def _dependants_first(names: set[str], depends_on: Mapping[str, AbstractSet[str]]) -> Sequence[str]:
    order: list[str] = []
    waiting = set(names)
    while waiting:
        required = {other for name in waiting for other in depends_on[name]}
        # Two packs may depend on each other through different tensors: then neither can come first.
        free = sorted(waiting - required) or sorted(waiting)
        order += free
        waiting -= set(free)
    return order
