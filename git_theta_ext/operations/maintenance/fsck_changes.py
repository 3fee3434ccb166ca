"""Check what has changed in a repository since ``git theta fsck`` found no problem."""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING

from git_theta_ext.errors import ManifestError
from git_theta_ext.git.objects import manifest_blobs, object_infos
from git_theta_ext.git.partial import is_partial
from git_theta_ext.git.snapshot import snapshot
from git_theta_ext.model.manifest import Manifest
from git_theta_ext.operations.distribution import workers_if_set
from git_theta_ext.operations.history.versions import file_changes
from git_theta_ext.operations.maintenance.fsck import listed_objects
from git_theta_ext.records import dataclass
from git_theta_ext.store.maintenance.fsck import Problem, check_manifests, check_packs
from git_theta_ext.store.verification.checks import Checks, version_key
from git_theta_ext.util.threads import batches
from git_theta_ext.version import __version__

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from collections.abc import Set as AbstractSet

    from git_theta_ext.git.repository import Repository
    from git_theta_ext.model.tensor import Digest
    from git_theta_ext.operations.workspace import Workspace
    from git_theta_ext.store.store import Store
    from git_theta_ext.transfer.elsewhere import Remotes

_CHECKING = 1
"""Increased whenever versions are checked for more, also between releases."""

_CODE = f"{__version__} {_CHECKING}"
"""What the checks depend on besides the repository: a record of other checks says nothing."""

_BATCH = 1 << 20
"""Bytes of manifests that are in memory at the same time."""


@dataclass(frozen=True)
class Changes:
    """What a check of the changes since the last check has found.

    Attributes:
        packs: Damaged packs.
        versions: The number of versions if none of them has a problem; otherwise None, and all have to be checked.
        kept: Number of packs that were not read again.
    """

    packs: list[Problem]
    versions: int | None
    kept: int


def check_changes(workspace: Workspace, remotes: Remotes) -> Changes:
    """Check the packs and the versions that were not there, or were different, at the last check.

    Args:
        workspace: The repository and its store.
        remotes: The remotes that may hold what the store lacks.

    Raises:
        RepositoryError: Git cannot walk the history.
    """
    store = workspace.store
    with Checks(store.root) as checks, workers_if_set(workspace) as workers:
        reads = checks.begin(_packs(store))
        with workspace.reporter.progress("checking packs", _size(store)) as advance:
            damaged = list(check_packs(store, advance, reads, workers))
        repository = snapshot(workspace.repo)
        state = None if repository is None else f"{_CODE} {repository}"
        count = checks.count(state)
        versions = None if count is None else _Versions(count, {}, everything=True)
        # A partial clone may fetch files of versions later.
        if damaged or store.verdicts.bad_here() or is_partial(workspace.repo):
            versions = None
        elif versions is None:
            versions = _check_versions(workspace, remotes, checks)
        known = (state, versions.count) if state is not None and versions is not None and versions.everything else None
        if count is None or versions is None or reads.rows():
            found = {} if versions is None else versions.found
            checks.finish(reads, found, known, whole=reads.same(_packs(store)))
        return Changes(damaged, None if versions is None else versions.count, reads.kept)


def _packs(store: Store) -> Iterator[str]:
    return (entry.path for _, entry in store.pack_entries())


def _size(store: Store) -> int:
    """Return the size of all packs in bytes, without those that another process has just removed."""
    total = 0
    for _, entry in store.pack_entries():
        with suppress(FileNotFoundError):
            total += entry.stat().st_size
    return total


@dataclass(frozen=True)
class _Versions:
    """Versions without problems.

    Attributes:
        count: Their number.
        found: Keys of the files that were looked at and need not be checked again, with whether each is a version.
        everything: Whether none has to be checked again.
    """

    count: int
    found: Mapping[bytes, bool]
    everything: bool


def _check_versions(workspace: Workspace, remotes: Remotes, checks: Checks) -> _Versions | None:
    """Check the versions that are not known yet; return None if one has a problem."""
    repo = workspace.repo
    files = {version_key(path, oid, _CODE): (path, oid) for path, oid in _files(repo)}
    known = checks.known(files)
    infos = object_infos(repo, dict.fromkeys(oid for key, (_, oid) in files.items() if key not in known))
    found: dict[bytes, bool] = {key: False for key, (_, oid) in files.items() if key not in known and oid in infos}
    keys: dict[str, list[bytes]] = {}
    for key in found:
        keys.setdefault(files[key][1], []).append(key)
    incomplete: list[str] = []
    with workspace.reporter.progress("checking manifests", len(keys), counted=True) as advance:
        texts = manifest_blobs(repo, {oid: infos[oid] for oid in keys})
        for blobs in batches(texts, lambda blob: len(blob[1]), _BATCH):
            try:
                manifests = {oid: Manifest.parse(data) for oid, data in blobs}
            except ManifestError:
                return None
            elsewhere = remotes.held(workspace.store, manifests)
            if any(check_manifests(workspace.store, manifests, elsewhere=elsewhere, here=not remotes.count)):
                return None
            found.update((key, True) for oid in manifests for key in keys[oid])
            incomplete += [oid for oid, manifest in manifests.items() if elsewhere and _needs(manifest, elsewhere)]
            advance(len(manifests))
    count = sum(known.values()) + sum(found.values())
    for oid in incomplete:
        for key in keys[oid]:
            del found[key]
    return _Versions(count, found, everything=not incomplete)


def _needs(manifest: Manifest, digests: AbstractSet[Digest]) -> bool:
    return any(digest in digests for digest, _ in manifest.digests())


def _files(repo: Repository) -> Iterator[tuple[str, str]]:
    """Yield path and object id of every file that a ref, a reflog or an index names, each once."""
    seen = dict.fromkeys((change.path, change.new) for change in file_changes(repo))
    yield from seen
    named = {oid for _, oid in seen}
    # Those that only the index of another work tree has.
    yield from ((path, oid) for oid, path in listed_objects(repo) if oid not in named)
