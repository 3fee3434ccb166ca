"""Fetch objects of Git LFS that are not on this machine from the remotes of a repository, without git-lfs."""

from __future__ import annotations

import shutil
from typing import TYPE_CHECKING

from git_theta_ext.errors import CorruptError, MissingError, StoreError, ThetaError
from git_theta_ext.interfaces import RemoteContext, WantedObject
from git_theta_ext.operations.migrate.lfs_storage import LfsStorage
from git_theta_ext.operations.sync.remotes import fetch_address, local_path, remotes_in_order, repository_at
from git_theta_ext.records import dataclass
from git_theta_ext.registry import find_remote
from git_theta_ext.util.files import reporting_os_errors, sha256_of
from git_theta_ext.util.text import redacted

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from git_theta_ext.git.repository import Repository
    from git_theta_ext.operations.workspace import Workspace
    from git_theta_ext.protocol.lfs.pointer import Pointer

    Fetch = Callable[[Iterable[WantedObject], Callable[[int], None]], Iterator[tuple[WantedObject, ThetaError | None]]]

_PLUG_IN = "lfs"


@dataclass(frozen=True)
class Fetched:
    """What became of objects that were to be fetched.

    Attributes:
        missing: Those that no remote provides.
        reasons: Why, for each remote.
    """

    missing: frozenset[Pointer] = frozenset()
    reasons: tuple[str, ...] = ()


def fetch_objects(workspace: Workspace, storage: LfsStorage, pointers: Iterable[Pointer]) -> Fetched:
    """Fetch those of some objects that are not here, from one remote after the other.

    An interrupted download is resumed. Every object is compared with its SHA-256.

    Args:
        workspace: The repository.
        storage: Gets the objects.
        pointers: The objects.

    Raises:
        StoreError: An object cannot be written.
    """
    repo = workspace.repo
    wanted = dict.fromkeys(storage.missing(pointers))
    if not wanted:
        return Fetched()
    reasons: list[str] = []
    with workspace.reporter.progress("fetching from Git LFS", sum(one.size for one in wanted)) as advance:
        for name in remotes_in_order(repo):
            failures: list[str] = []
            try:
                for pointer, error in _fetched(_source(repo, name), storage, list(wanted), advance):
                    if error is None:
                        del wanted[pointer]
                    else:
                        failures.append(error.message)
            except StoreError:
                raise
            except ThetaError as error:
                failures.insert(0, error.message)
            if not wanted:
                break
            more = f"; and {len(failures) - 1} more" if len(failures) > 1 else ""
            reasons.append(f"{redacted(name)}: {failures[0].removeprefix(f'{name}: ')}{more}")
    return Fetched(frozenset(wanted), tuple(reasons) or ("there is no remote",))


def _fetched(
    fetch: Fetch, storage: LfsStorage, pointers: Iterable[Pointer], advance: Callable[[int], None]
) -> Iterator[tuple[Pointer, ThetaError | None]]:
    objects = {WantedObject(one.oid, one.size, storage.partial(one)): one for one in pointers}
    for wanted, error in fetch(objects, advance):
        if error is None:
            storage.add(wanted.path, objects[wanted])
        yield objects[wanted], error


def _source(repo: Repository, name: str) -> Fetch:
    """Find the objects of a remote: on the LFS server, or beside the repository if that is on this machine.

    Raises:
        ThetaError: There is no server and no repository.
    """
    chosen = [repo.run("config", key, check=False) for key in (f"remote.{name}.lfsurl", "lfs.url")]
    named = next((value.decode(errors="surrogateescape").removesuffix("\n") for value in chosen if value), None)
    address = fetch_address(repo, name)
    if local_path(named or address) is not None:
        return _Directory(LfsStorage.of(repository_at(repo, name, named or address))).fetch
    objects = find_remote(_PLUG_IN).objects
    assert objects is not None
    return objects(RemoteContext(name, address, repo)).fetch


@dataclass(frozen=True)
class _Directory:
    """The objects of another repository on this machine."""

    storage: LfsStorage

    def fetch(
        self, objects: Iterable[WantedObject], advance: Callable[[int], None]
    ) -> Iterator[tuple[WantedObject, ThetaError | None]]:
        """Copy objects; see ``ObjectServer``."""
        for wanted in objects:
            source = self.storage.find(wanted.oid, wanted.nbytes)
            if source is None:
                yield wanted, MissingError(f"{self.storage.root} has no object {wanted.oid}")
                continue
            with reporting_os_errors(wanted.path):
                shutil.copyfile(source, wanted.path)
            if sha256_of(wanted.path) == wanted.oid:
                advance(wanted.nbytes)
                yield wanted, None
            else:
                wanted.path.unlink()
                yield wanted, CorruptError(f"the object {source} is damaged")
