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
    from collections.abc import Callable, Container, Iterable, Iterator, Mapping
    from pathlib import Path
    from typing import IO

    from git_theta_ext.git.repository import Repository
    from git_theta_ext.operations.migrate.streams import CommitFiles, Edit

_TOP = NAME.encode()
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
        later: Those that stay in a commit without such a path, if its first parents had none either.
        default: The blob of the ``.gitattributes`` at the top of other commits that have none; None to add none.
    """

    matches: Callable[[bytes], bool]
    blobs: Mapping[str, str]
    attributes: Mapping[tuple[bytes, str], str | None]
    later: Container[tuple[bytes, str]] = frozenset()
    default: str | None = None
    _before: dict[int, Mapping[bytes, Change]] = field(default_factory=dict)
    """Each commit without such a path to its ``.gitattributes`` by path."""

    def edit(self, commit: CommitFiles) -> list[Change | Delete]:
        """Return the changes with the new blobs, and what the first commit with a path to migrate lacks."""
        before = self._before.get(commit.parent, None) if commit.parent is not None else {}
        if before is None:
            return [*map(self._delete, commit.deletes), *map(self._change, commit.changes)]
        files = _with_changes(before, commit)
        if not any(change.regular and self.matches(change.path) for change in commit.changes):
            self._before[commit.mark] = files
            return [*commit.deletes, *(self._change(one) if self._is_due(one) else one for one in commit.changes)]
        edits = [*commit.deletes, *map(self._change, commit.changes)]
        edits += [self._change(file) for file in files.values() if file not in commit.changes]
        return edits if self.default is None or _TOP in files else [*edits, self._default()]

    def _is_due(self, change: Change) -> bool:
        folder = attributes_folder(change.path) if change.regular else None
        return folder is not None and (folder, change.oid) not in self.later

    def _change(self, change: Change) -> Change | Delete:
        folder = attributes_folder(change.path)
        if folder is not None:
            if not change.regular:  # git does not follow it
                return self._default() if not folder and self.default else change
            oid = self.attributes[folder, change.oid]
            return Delete(change.path, change.written) if oid is None else replace(change, oid=oid)
        if change.regular and change.oid in self.blobs and self.matches(change.path):
            return replace(change, oid=self.blobs[change.oid])
        return change

    def _delete(self, delete: Delete) -> Change | Delete:
        return self._default() if self.default and delete.path == _TOP else delete

    def _default(self) -> Change:
        return Change("100644", self.default or "", _TOP, _TOP)


def _with_changes(before: Mapping[bytes, Change], commit: CommitFiles) -> Mapping[bytes, Change]:
    """Return the ``.gitattributes`` of a commit, given those of its first parent."""
    deleted = [one.path for one in commit.deletes if one.path in before]
    changed = {one.path: one for one in commit.changes if attributes_folder(one.path) is not None}
    if not deleted and not changed:
        return before  # commits share it
    return {path: file for path, file in before.items() if path not in deleted} | changed


@dataclass(frozen=True)
class NotesEdit:
    """Renames notes, whose paths are the ids of commits, maybe split into folders.

    Attributes:
        ids: Old to new ids of commits and tags.
    """

    ids: Mapping[str, str]

    def edit(self, commit: CommitFiles) -> list[Change | Delete]:
        """Return the changes and deletions at the new paths."""
        return [*map(self._renamed, commit.deletes), *map(self._renamed, commit.changes)]

    def _renamed(self, one: Change | Delete) -> Change | Delete:
        path = self._new(one.path)
        return one if path == one.path else replace(one, path=path, written=path)

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
