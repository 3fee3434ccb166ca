"""Rewrite commits in one pass through git, without their blobs."""

from __future__ import annotations

import os
import subprocess
from contextlib import contextmanager
from typing import TYPE_CHECKING

from git_theta_ext.errors import RepositoryError
from git_theta_ext.operations.migrate.attributes import NAME
from git_theta_ext.operations.migrate.commits import write_commits
from git_theta_ext.operations.migrate.listing import attributes_folder, exported
from git_theta_ext.operations.migrate.streams import Change, Delete, edited
from git_theta_ext.records import dataclass, field, replace

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping
    from pathlib import Path
    from typing import IO

    from git_theta_ext.git.repository import Repository
    from git_theta_ext.operations.migrate.streams import Edit

TEMPORARY_REF = "refs/theta-migrate/commits"
"""Names what ``git fast-import`` writes, so that git does not prune the trees before refs name their commits."""

_IMPORT = (
    *("-c", "core.ignorecase=false", "fast-import", "--quiet", "--force"),
    *("--done", "--date-format=raw-permissive"),
)


@dataclass(frozen=True)
class FileEdit:
    """Replaces blobs.

    Attributes:
        matches: Returns whether a path is to be migrated.
        blobs: Blob to what replaces it at such a path.
        attributes: The folder and the blob of each ``.gitattributes``, to the blob that replaces it; None to remove it.
        default: The blob of the ``.gitattributes`` at the top of commits that have none; None to add none.
    """

    matches: Callable[[bytes], bool]
    blobs: Mapping[str, str]
    attributes: Mapping[tuple[bytes, str], str | None]
    default: str | None = None

    def change(self, change: Change) -> Change | Delete:
        """Return a change with the new blob."""
        folder = attributes_folder(change.path)
        if folder is not None:
            if not change.regular:  # git does not follow it
                return self._default() if not folder and self.default else change
            oid = self.attributes[folder, change.oid]
            return Delete(change.path, change.written) if oid is None else replace(change, oid=oid)
        if change.regular and change.oid in self.blobs and self.matches(change.path):
            return replace(change, oid=self.blobs[change.oid])
        return change

    def delete(self, delete: Delete) -> Change | Delete:
        """Return a deletion, or the ``.gitattributes`` that stays instead."""
        return self._default() if self.default and delete.path == NAME.encode() else delete

    def added_to_root(self, paths: set[bytes]) -> list[Change]:
        """Return the ``.gitattributes`` that a commit without parents lacks."""
        return [self._default()] if self.default and NAME.encode() not in paths else []

    def _default(self) -> Change:
        return Change("100644", self.default or "", NAME.encode(), NAME.encode())


@dataclass(frozen=True)
class NotesEdit:
    """Renames notes, whose paths are the ids of commits, maybe split into folders.

    Attributes:
        ids: Old to new ids of commits and tags.
    """

    ids: Mapping[str, str]
    _names: dict[bytes, bytes] = field(default_factory=dict)

    def change(self, change: Change) -> Change:
        """Return a change at the new path."""
        path = self._new(change.path)
        return change if path == change.path else replace(change, path=path, written=path)

    def delete(self, delete: Delete) -> Change | Delete:
        """Return a deletion at the new path."""
        path = self._new(delete.path)
        return delete if path == delete.path else Delete(path, path)

    def added_to_root(self, paths: set[bytes]) -> list[Change]:  # noqa: ARG002 - as Edit
        """Add nothing."""
        return []

    def _new(self, path: bytes) -> bytes:
        new = self.ids.get(path.replace(b"/", b"").decode("latin-1"))
        if new is None:
            return path
        letters = iter(new.encode())
        # The same folders: when git moves a note between folders, it deletes and adds it in one commit.
        return bytes(byte if byte == ord("/") else next(letters) for byte in path)


def rewrite(
    repo: Repository, tips: Iterable[str], edit: Edit, marks: Path, advance: Callable[[int], None]
) -> dict[str, str]:
    """Write new commits for all commits that some commits reach.

    Args:
        repo: The repository.
        tips: Ids of commits.
        edit: What becomes of their files.
        marks: A file for git.
        advance: Called with the number of commits written since the last call.

    Returns:
        The new id of each commit.

    Raises:
        RepositoryError: Git cannot read or write the commits; no ref has changed.
        ProtocolError: Git prints something unknown.
    """
    commits: dict[int, str] = {}
    with exported(repo, tips) as stream, _importing(repo, marks) as target:
        try:
            shown = 0
            for piece in edited(stream, TEMPORARY_REF, edit, commits):
                target.write(piece)
                advance(len(commits) - shown)
                shown = len(commits)
        except BrokenPipeError as error:
            raise RepositoryError("git fast-import stopped", hint="git fsck") from error
    written = dict(_read_marks(marks))
    return write_commits(repo, {old: written[mark] for mark, old in commits.items()})


@contextmanager
def _importing(repo: Repository, marks: Path) -> Iterator[IO[bytes]]:
    words = ["git", *_IMPORT, f"--export-marks={os.fspath(marks)}"]
    with subprocess.Popen(words, cwd=repo.folder, env=repo.environment(), stdin=subprocess.PIPE) as process:
        assert process.stdin is not None
        try:
            yield process.stdin
            process.stdin.close()
        except BaseException:
            process.kill()
            raise
    if process.returncode:
        raise RepositoryError("git fast-import failed", hint="git fsck")


def _read_marks(path: Path) -> Iterator[tuple[int, str]]:
    for line in path.read_text().splitlines():
        mark, _, oid = line.partition(" ")
        yield int(mark.removeprefix(":")), oid
