"""Read and edit what ``git fast-export`` prints, before ``git fast-import`` gets it; see git-fast-import(1).

The stream has the commits without their blobs, which keep their ids, so editing it means to replace ids. Only the trees
of the edited commits are used (``commits``), so authors and messages are left out.
"""

from __future__ import annotations

import os
import re
from typing import TYPE_CHECKING, Protocol

from git_theta_ext.errors import ProtocolError
from git_theta_ext.records import dataclass, replace
from git_theta_ext.util.quoting import unquote

if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import IO

MAX_LINE = 1 << 20
"""Bytes; a longer line would be a longer path than file systems have."""
_PIECE = 1 << 16

_MARK = re.compile(rb"mark :([1-9][0-9]{0,17})\n")
_ORIGINAL = re.compile(rb"original-oid ([0-9a-f]{40}|[0-9a-f]{64})\n")
_CHANGE = re.compile(rb"M ([0-7]{6}) ([0-9a-f]{40}|[0-9a-f]{64}) ([^\n]+)\n")
_DELETE = re.compile(rb"D ([^\n]+)\n")
_DATA = re.compile(rb"data ([0-9]{1,18})\n")
_PARENT = re.compile(rb"(?:from|merge) :([1-9][0-9]{0,17})\n")
_QUOTED = re.compile(rb'"((?:[^"\\]|\\(?:[abfnrtv"\\]|[0-3][0-7]{2}))*)"')
_IGNORED = (b"author ", b"committer ", b"encoding ")
_SIGNATURE = b"gpgsig "


@dataclass(frozen=True, slots=True)
class Reset:
    """The next commit has no parent."""


@dataclass(frozen=True, slots=True)
class Begin:
    """A commit begins.

    Attributes:
        mark: Its number in the stream.
        oid: Its id.
    """

    mark: int
    oid: str


@dataclass(frozen=True, slots=True)
class Parent:
    """A parent of the commit; the first one comes first.

    Attributes:
        line: The line that names it.
        mark: Its number in the stream.
    """

    line: bytes
    mark: int


@dataclass(frozen=True, slots=True)
class Change:
    """A file is added or changed, compared with the first parent.

    Attributes:
        mode: Its mode, as ``100644``.
        oid: The id of its blob.
        path: Its path.
        written: The path as the stream has it, maybe in quotes.
    """

    mode: str
    oid: str
    path: bytes
    written: bytes

    @property
    def regular(self) -> bool:
        """Whether it is a regular file, not a symbolic link or a submodule."""
        return self.mode.startswith("100")


@dataclass(frozen=True, slots=True)
class Delete:
    """A file is deleted, compared with the first parent; see ``Change``."""

    path: bytes
    written: bytes


@dataclass(frozen=True, slots=True)
class End:
    """A commit ends."""


Event = Reset | Begin | Parent | Change | Delete | End


@dataclass(frozen=True, slots=True)
class CommitFiles:
    """The files of a commit.

    Attributes:
        mark: Its number in the stream.
        parent: The number of the first parent; None if there is none.
        deletes: The files that are deleted, compared with the first parent.
        changes: The files that are added or changed.
    """

    mark: int
    parent: int | None
    deletes: list[Delete]
    changes: list[Change]


class Edit(Protocol):
    """Decides what becomes of the files of each commit."""

    def edit(self, commit: CommitFiles) -> list[Change | Delete]:
        """Return what replaces the changes and deletions of a commit, which comes after its parents."""
        ...


def read_events(stream: IO[bytes]) -> Iterator[Event]:
    """Read a stream that ends with ``done``.

    Raises:
        ProtocolError: The stream is not what ``git fast-export`` prints with the options of ``rewrite``, or ends early.
    """
    while (line := _line(stream)) != b"done\n":
        if line.startswith(b"commit "):
            yield from _commit(stream)
        elif line.startswith(b"reset "):
            yield Reset()
        elif line not in (b"\n", b"feature done\n"):
            raise _unexpected(line)


def edited(stream: IO[bytes], ref: str, edit: Edit, commits: dict[int, str]) -> Iterator[bytes]:
    """Yield the edited stream, in which commits have no authors and no messages.

    Args:
        stream: The stream.
        ref: All commits are put on this ref, which is temporary.
        edit: The changes.
        commits: Is filled with the id of each commit by its mark.

    Raises:
        ProtocolError: As ``read_events``.
    """
    name = ref.encode()
    root = False
    parents: list[int] = []
    files = CommitFiles(0, None, [], [])
    yield b"feature done\n"
    for event in read_events(stream):
        if isinstance(event, Reset):
            root = True
            yield b"reset %s\n" % name
        elif isinstance(event, Begin):
            commits[event.mark] = event.oid
            files = CommitFiles(event.mark, None, [], [])
            yield b"commit %s\nmark :%d\ncommitter x <x> 0 +0000\ndata 0\n\n" % (name, event.mark)
        elif isinstance(event, Parent):
            parents.append(event.mark)
            yield event.line
        elif isinstance(event, Change):
            files.changes.append(event)
        elif isinstance(event, Delete):
            files.deletes.append(event)
        else:
            if root == bool(parents):  # a commit that names no parent would get the commit before it
                raise ProtocolError(f"git fast-export printed commit {commits[files.mark]} in the wrong order")
            edits = edit.edit(replace(files, parent=parents[0] if parents else None))
            # git deletes a file that becomes a folder after it added the files in it, which would delete them as well.
            yield from (_to_line(one) for one in edits if isinstance(one, Delete))
            yield from (_to_line(one) for one in edits if isinstance(one, Change))
            yield b"\n"
            root, parents = False, []
    yield b"done\n"


def _commit(stream: IO[bytes]) -> Iterator[Event]:
    mark = _expect(stream, _MARK)
    yield Begin(int(mark[1]), _expect(stream, _ORIGINAL)[1].decode())
    line = _line(stream)
    while not (data := _DATA.fullmatch(line)):
        if line.startswith(_SIGNATURE):  # new versions of git print them
            _skip(stream, int(_expect(stream, _DATA)[1]))
        elif line != b"\n" and not line.startswith(_IGNORED):
            raise _unexpected(line)
        line = _line(stream)
    _skip(stream, int(data[1]))
    yield from _files(stream)


def _files(stream: IO[bytes]) -> Iterator[Event]:
    while (line := _line(stream)) != b"\n":
        if change := _CHANGE.fullmatch(line):
            yield Change(change[1].decode(), change[2].decode(), _path(change[3]), change[3])
        elif delete := _DELETE.fullmatch(line):
            yield Delete(_path(delete[1]), delete[1])
        elif parent := _PARENT.fullmatch(line):
            yield Parent(line, int(parent[1]))
        else:
            raise _unexpected(line)
    yield End()


def _path(written: bytes) -> bytes:
    if not written.startswith(b'"'):
        return written
    quoted = _QUOTED.fullmatch(written)
    if quoted is None:
        raise _unexpected(written)
    return os.fsencode(unquote(os.fsdecode(quoted[1])))


def _to_line(change: Change | Delete) -> bytes:
    if isinstance(change, Delete):
        return b"D %s\n" % change.written
    return b"M %s %s %s\n" % (change.mode.encode(), change.oid.encode(), change.written)


def _line(stream: IO[bytes]) -> bytes:
    line = stream.readline(MAX_LINE)
    if not line.endswith(b"\n"):
        raise ProtocolError("git fast-export stopped early" if len(line) < MAX_LINE else "a path is too long")
    return line


def _expect(stream: IO[bytes], pattern: re.Pattern[bytes]) -> re.Match[bytes]:
    line = _line(stream)
    match = pattern.fullmatch(line)
    if match is None:
        raise _unexpected(line)
    return match


def _skip(stream: IO[bytes], count: int) -> None:
    while count:
        piece = stream.read(min(count, _PIECE))
        if not piece:
            raise ProtocolError("git fast-export stopped early")
        count -= len(piece)


def _unexpected(line: bytes) -> ProtocolError:
    return ProtocolError(f"git fast-export printed {line[:80].decode(errors='replace').strip()!r}, which is unknown")
