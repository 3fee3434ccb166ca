"""Files in ``$GIT_COMMON_DIR/theta/migrate`` from which an interrupted migration continues."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from git_theta_ext.errors import RepositoryError
from git_theta_ext.records import dataclass
from git_theta_ext.util.files import replacing, reporting_os_errors, sync_directories, sync_file

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from pathlib import Path
    from typing import IO

    from typing_extensions import Self

_OID = "[0-9a-f]{40}(?:[0-9a-f]{24})?"
_PAIR = re.compile(f"({_OID}) ({_OID})")
_MOVE = re.compile(f"({_OID}) ({_OID}) (HEAD|refs/.+)")


class Journal:
    """Records which blob has become which; a context manager.

    A line is added after the new blob is stored. A line that was cut off by a crash is ignored.

    Args:
        path: The file.

    Attributes:
        pairs: The new blob of each old one.
        scratch: A file that a blob may be written to before it is stored.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self.scratch = path.with_name("blob")
        self._file: IO[str] | None = None
        self.pairs: dict[str, str] = {}

    def __enter__(self) -> Self:
        """Read what is recorded, and open the file."""
        with reporting_os_errors(self._path):
            self._path.parent.mkdir(parents=True, exist_ok=True)
            self._file = self._path.open("a+")
            self._file.seek(0)
            lines = self._file.read().split("\n")
            if lines[-1]:
                self._file.write("\n")
        self.pairs = {match[1]: match[2] for line in lines[:-1] if (match := _PAIR.fullmatch(line))}
        return self

    def __exit__(self, *_: object) -> None:
        """Close the file."""
        if self._file is not None:
            self._file.close()

    def add(self, old: str, new: str) -> None:
        """Record that a blob has become another."""
        assert self._file is not None
        with reporting_os_errors(self._path):
            self._file.write(f"{old} {new}\n")
            self._file.flush()
        self.pairs[old] = new


@dataclass(frozen=True)
class Move:
    """A ref that moves.

    Attributes:
        ref: Its full name, or ``HEAD``.
        old: The id of what it named.
        new: The id of what it will name.
    """

    ref: str
    old: str
    new: str


def write_moves(path: Path, moves: Iterable[Move]) -> None:
    """Write the refs to move, durably, before the first of them moves."""
    text = "".join(f"{move.old} {move.new} {move.ref}\n" for move in moves)
    with reporting_os_errors(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        with replacing(path) as temporary:
            temporary.write_bytes(text.encode(errors="surrogateescape"))
            sync_file(temporary)
        sync_directories([path.parent])


def read_moves(path: Path) -> list[Move]:
    """Return the refs that an interrupted migration has to move; none if there is no such file.

    Raises:
        RepositoryError: The file is damaged.
    """
    try:
        text = path.read_bytes().decode(errors="surrogateescape")
    except FileNotFoundError:
        return []
    matches = [_MOVE.fullmatch(line) for line in text.split("\n")[:-1]]
    if not text.endswith("\n") or None in matches:
        raise RepositoryError(f"{path} is damaged", hint="git for-each-ref refs/original")
    return [Move(match[3], match[1], match[2]) for match in matches if match]


def write_commit_map(path: Path, commits: Mapping[str, str]) -> None:
    """Write the new id of each commit, in the format of git-filter-repo's ``commit-map``."""
    width = max(map(len, commits), default=40)
    lines = [f"{'old':{width}} new", *(f"{old} {new}" for old, new in sorted(commits.items()))]
    with reporting_os_errors(path), replacing(path) as temporary:
        temporary.write_text("\n".join(lines) + "\n")
