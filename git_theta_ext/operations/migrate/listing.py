"""List what history holds at the paths that a migration is about."""

from __future__ import annotations

import subprocess
from contextlib import contextmanager
from typing import TYPE_CHECKING

from git_theta_ext.errors import RepositoryError
from git_theta_ext.operations.migrate.attributes import NAME
from git_theta_ext.operations.migrate.streams import Begin, Change, read_events
from git_theta_ext.records import dataclass, field

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator
    from typing import IO

    from git_theta_ext.git.repository import Repository

_EXPORT = (
    *("-c", "core.ignorecase=false", "fast-export", "--no-data", "--show-original-ids", "--reencode=no"),
    *("--use-done-feature", "--stdin"),
)


@dataclass
class Listing:
    """The files of some commits.

    Attributes:
        commits: Ids of the commits.
        files: Blob to the first path at which it is a file to migrate, oldest first.
        paths: The number of different blobs of each path.
        attributes: The folder and the blob of each version of each ``.gitattributes``.
    """

    commits: list[str] = field(default_factory=list)
    files: dict[str, bytes] = field(default_factory=dict)
    paths: dict[bytes, int] = field(default_factory=dict)
    attributes: dict[tuple[bytes, str], None] = field(default_factory=dict)


@contextmanager
def exported(repo: Repository, tips: Iterable[str]) -> Iterator[IO[bytes]]:
    """Yield what ``git fast-export`` prints of all commits that some commits reach.

    Raises:
        RepositoryError: Git cannot read the commits.
    """
    with subprocess.Popen(
        ["git", *_EXPORT],
        cwd=repo.folder,
        env=repo.environment(),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    ) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        try:
            process.stdin.write("".join(f"{tip}\n" for tip in tips).encode())
            process.stdin.close()
            yield process.stdout
        finally:
            process.kill()


def list_files(
    repo: Repository, tips: Iterable[str], matches: Callable[[bytes], bool], advance: Callable[[int], None]
) -> Listing:
    """List the files of all commits that some commits reach.

    Args:
        repo: The repository.
        tips: Ids of commits.
        matches: Returns whether a path is to be migrated.
        advance: Called with the number of commits read since the last call.

    Raises:
        RepositoryError: Git cannot read the commits.
        ProtocolError: Git prints something unknown.
    """
    listing = Listing()
    pairs: set[tuple[bytes, str]] = set()
    with exported(repo, tips) as stream:
        for event in read_events(stream):
            if isinstance(event, Begin):
                listing.commits.append(event.oid)
                advance(1)
            elif isinstance(event, Change) and event.regular:
                folder = attributes_folder(event.path)
                if folder is not None:
                    listing.attributes[folder, event.oid] = None
                elif matches(event.path):
                    listing.files.setdefault(event.oid, event.path)
                    if (event.path, event.oid) not in pairs:
                        pairs.add((event.path, event.oid))
                        listing.paths[event.path] = listing.paths.get(event.path, 0) + 1
    return listing


def attributes_folder(path: bytes) -> bytes | None:
    """Return the folder of a ``.gitattributes``, empty for the top; None if the path is another file's.

    Raises:
        RepositoryError: A folder has that name.
    """
    folder, _, name = path.rpartition(b"/")
    if name == NAME.encode():
        return folder
    if NAME.encode() in folder.split(b"/"):
        shown = path.decode(errors="surrogateescape")
        raise RepositoryError(f"{shown}: a folder has the name {NAME}", hint="git log --all -- :/.gitattributes")
    return None
