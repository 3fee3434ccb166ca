"""The versions of checkpoints in history, oldest first."""

from __future__ import annotations

from contextlib import suppress
from itertools import chain, islice
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING

from git_theta_ext.errors import ManifestError, RepositoryError
from git_theta_ext.git.objects import local_blobs, manifest_blobs, object_infos
from git_theta_ext.git.partial import is_partial
from git_theta_ext.git.process import foreign_environment
from git_theta_ext.git.repository import Repository
from git_theta_ext.git.revisions import head_of
from git_theta_ext.git.worktrees import worktrees
from git_theta_ext.model.manifest import Manifest
from git_theta_ext.records import dataclass

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping


# A merge is compared with each of its parents, so that a manifest that no parent has is listed.
_LOG = ("log", "-z", "--all", "--reflog", "--reverse", "--raw", "-m", "--root", "--no-abbrev", "--no-renames")
_HEADER = "\x01"


@dataclass(frozen=True)
class Version:
    """A manifest at a path.

    Attributes:
        oid: Object id of the manifest's blob.
        path: Path relative to the top of the work tree.
        commit: The first commit that has it there; None if it is only staged.
        time: Time of that commit, in seconds since the epoch; 0 if it is only staged.
        manifest: The parsed manifest.
        previous: Object ids of the manifests that it replaced at that path: several in a merge, none at first.
    """

    oid: str
    path: str
    commit: str | None
    time: int
    manifest: Manifest
    previous: tuple[str, ...] = ()


@dataclass(frozen=True)
class FileChange:
    """A file that a commit added or modified, or that is staged.

    Attributes:
        commit: Id of the commit; None if the file is only staged.
        time: Time of the commit, in seconds since the epoch.
        path: Path relative to the top of the work tree.
        old: Object id of the blob before; empty or zeros if there was none.
        new: Object id of the blob.
    """

    commit: str | None
    time: int
    path: str
    old: str
    new: str


def versions(repo: Repository, least: int = 1, read: Mapping[str, Manifest] = MappingProxyType({})) -> list[Version]:
    """Return every version of every checkpoint that a ref, a reflog or the index names.

    Parents come before their children. A manifest that cannot be read is left out; ``git theta fsck`` reports it. A
    manifest that a partial clone has not fetched is left out too: none of its data is stored here.

    Args:
        repo: The repository.
        least: If there are fewer manifests, none is parsed, and nothing is returned.
        read: Manifests that were read already, by object id.

    Raises:
        RepositoryError: Git cannot walk the history.
    """
    return _versions(repo, file_changes(repo), least, read)


def latest_versions(
    repo: Repository, commits: int, least: int = 1, read: Mapping[str, Manifest] = MappingProxyType({})
) -> tuple[list[Version], bool]:
    """Return the versions that the latest commits added, but not what is only staged.

    Parents come before their children here, too.

    Args:
        repo: The repository.
        commits: The number of commits.
        least: As for ``versions``.
        read: As for ``versions``.

    Returns:
        The versions, and whether there are no older commits.

    Raises:
        RepositoryError: Git cannot walk the history.
    """
    listed = _log(repo, "--date-order", f"--max-count={commits}")
    return _versions(repo, _changes(listed), least, read), listed.count(f"\0{_HEADER}") + 1 < commits


def _versions(
    repo: Repository, changes: Iterable[FileChange], least: int, read: Mapping[str, Manifest]
) -> list[Version]:
    first: dict[tuple[str, str], FileChange] = {}
    replaced: dict[tuple[str, str], dict[str, None]] = {}
    for change in changes:
        key = (change.path, change.new)
        first.setdefault(key, change)
        replaced.setdefault(key, {})[change.old] = None
    manifests = _manifests(repo, {oid for _, oid in first}, least, read)
    return [
        Version(
            oid=oid,
            path=path,
            commit=change.commit,
            time=change.time,
            manifest=manifests[oid],
            previous=tuple(old for old in replaced[path, oid] if old in manifests and old != oid),
        )
        for (path, oid), change in first.items()
        if oid in manifests
    ]


def file_changes(repo: Repository) -> Iterator[FileChange]:
    """Yield every file that a commit or an index changes, from the oldest commit on; removed files are left out.

    Raises:
        RepositoryError: Git cannot walk the history.
    """
    yield from _changes(_log(repo, "--topo-order"))
    yield from _staged(repo)


def _log(repo: Repository, *options: str) -> str:
    return repo.run(*_LOG, *options, f"--format={_HEADER}%H %ct", check=False).decode(errors="surrogateescape")


def _changes(text: str) -> Iterator[FileChange]:
    """Yield the files that commits add or modify, given what git lists of the commits."""
    commit, time = "", 0
    tokens = iter(text.split("\0"))
    for token in tokens:
        if token.startswith(_HEADER):
            commit, _, seconds = token[1:].partition(" ")
            time = int(seconds)
        elif (fields := token.lstrip("\n")).startswith(":"):
            _, _, old, new, _ = fields.split(" ")
            path = next(tokens)
            if new.strip("0"):
                yield FileChange(commit, time, path, old, new)


def _staged(repo: Repository) -> Iterator[FileChange]:
    """Yield the files that differ between the index and HEAD, for each work tree."""
    yield from _staged_in(repo)
    for top in (Path(listed.top) for listed in worktrees(repo)):
        if top != repo.worktree:
            with suppress(RepositoryError):  # removed by hand, or the bare repository itself
                yield from _staged_in(Repository.discover(top, env=foreign_environment()))


def _staged_in(repo: Repository) -> Iterator[FileChange]:
    if repo.worktree is None:
        return
    committed = {}
    if head_of(repo) is not None:
        committed = {entry.path: entry.oid for entry in repo.entries("HEAD")}
    for entry in repo.entries(None):
        if entry.regular and committed.get(entry.path) != entry.oid:
            yield FileChange(None, 0, entry.path, committed.get(entry.path, ""), entry.oid)


def _manifests(repo: Repository, oids: set[str], least: int, read: Mapping[str, Manifest]) -> dict[str, Manifest]:
    if is_partial(repo):
        oids = oids & set(local_blobs(repo))  # git would fetch the others one by one
    manifests = {oid: read[oid] for oid in oids if oid in read}
    blobs = manifest_blobs(repo, object_infos(repo, sorted(oids - manifests.keys())))
    begun = list(islice(blobs, max(0, least - len(manifests))))
    if len(manifests) + len(begun) < least:
        return {}
    for oid, data in chain(begun, blobs):
        with suppress(ManifestError):
            manifests[oid] = Manifest.parse(data)
    return manifests
