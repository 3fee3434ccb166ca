"""Read commits and the files that they change, all through one ``git log``, as far as the caller goes on."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING

from git_theta_ext.errors import RepositoryError
from git_theta_ext.git.entries import is_regular
from git_theta_ext.git.process import error_of
from git_theta_ext.git.revisions import unshallow_hint
from git_theta_ext.records import dataclass

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from git_theta_ext.git.repository import Repository

# Settings with which git would print something else.
_SETTINGS = ("log.follow=false", "log.showRoot=true", "log.showSignature=false")
# A merge is compared with each of its parents, and shows the files that differ from all.
_RAW = ("--raw", "-z", "-c", "-M", "--no-abbrev", "--no-color", "--no-relative", "--encoding=UTF-8")
_HEADER, _FIELD = "\x01", "\x02"
COMMIT_FIELDS = "%H%x02%P%x02%aI%x02%aN%x02%s%x02"
"""What git is asked to print of a commit, for ``parse_header``."""
_PIECE = 1 << 16


@dataclass(frozen=True, slots=True)
class CommittedFile:
    """A file that a commit changes.

    Attributes:
        path: Its path in the commit, or in the parent if the commit deletes it.
        old_path: Its path in the parent; the same unless it was renamed.
        old: Its object id in each parent; empty if it is not there, or is not a regular file.
        new: Its object id in the commit; empty as above.
    """

    path: str
    old_path: str
    old: tuple[str, ...]
    new: str


@dataclass(frozen=True, slots=True)
class Commit:
    """A commit.

    Attributes:
        oid: Its id.
        parents: Ids of its parents, or of the nearest ancestors that git shows.
        date: When it was written, as ISO 8601 has it.
        author: Name of its author.
        subject: First line of its message.
        trailers: The values of the trailers that were asked for.
        files: What it changes; for a merge, what differs from all parents.
    """

    oid: str
    parents: tuple[str, ...]
    date: str
    author: str
    subject: str
    trailers: tuple[str, ...]
    files: tuple[CommittedFile, ...]


def read_log(repo: Repository, words: Sequence[str], *, trailer: str = "", cwd: Path | None = None) -> Iterator[Commit]:
    """Yield commits as ``git log`` orders them.

    Args:
        repo: The repository.
        words: Options that select commits, revisions, and paths.
        trailer: The trailer whose values are read.
        cwd: The directory that paths are relative to; the current one if None.

    Raises:
        RepositoryError: Git refuses the words; the message is git's.
    """
    form = f"--format=%x01{COMMIT_FIELDS}" + (f"%(trailers:key={trailer},valueonly,unfold)" if trailer else "")
    settings = [word for setting in _SETTINGS for word in ("-c", setting)]
    with subprocess.Popen(
        ["git", *settings, "log", *_RAW, form, *words],
        cwd=cwd or Path.cwd(),
        env=repo.environment(),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    ) as process:
        assert process.stderr is not None
        try:
            yield from _commits(_tokens(process))
            # Git prints little more than one error there, which fits a pipe.
            errors = process.stderr.read()
            if process.wait():
                raise RepositoryError(error_of(errors, "log", process.returncode), hint=unshallow_hint(repo))
        finally:
            # If the caller stops early, git must not wait until the rest of its output is read.
            process.kill()


def _tokens(process: subprocess.Popen[bytes]) -> Iterator[str]:
    assert process.stdout is not None
    rest = b""
    while piece := os.read(process.stdout.fileno(), _PIECE):
        *tokens, rest = (rest + piece).split(b"\0")
        yield from map(os.fsdecode, tokens)
    if rest:
        yield os.fsdecode(rest)


def _commits(tokens: Iterator[str]) -> Iterator[Commit]:
    header: str | None = None
    files: list[CommittedFile] = []
    for token in tokens:
        if token.startswith(_HEADER):
            if header is not None:
                yield parse_header(header, files)
            header, files = token[1:], []
        elif (fields := token.lstrip("\n")).startswith(":"):
            files.append(_file(fields, tokens))
    if header is not None:
        yield parse_header(header, files)


def _file(fields: str, tokens: Iterator[str]) -> CommittedFile:
    """Read ``:MODE MODE OID OID STATUS``, with a colon, a mode and an id more for each further parent of a merge."""
    parents = len(fields) - len(fields.lstrip(":"))
    words = fields[parents:].split(" ")
    modes, oids, status = words[: parents + 1], words[parents + 1 : -1], words[-1]
    old_path = path = next(tokens)
    if parents == 1 and status.startswith("R"):
        path = next(tokens)
    *old, new = (oid if is_regular(mode) and oid.strip("0") else "" for mode, oid in zip(modes, oids, strict=True))
    return CommittedFile(path, old_path, tuple(old), new)


def parse_header(header: str, files: Sequence[CommittedFile] = ()) -> Commit:
    """Return a commit from what git prints of it."""
    oid, parents, date, author, rest = header.split(_FIELD, 4)
    subject, _, trailers = rest.rpartition(_FIELD)
    values = tuple(line for line in trailers.split("\n") if line.strip())
    return Commit(oid, tuple(parents.split()), date, author, subject, values, tuple(files))
