"""Files as git lists them, in a commit or in the index."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

    from git_theta_ext.git.process import RunGit

_REGULAR_MODES = frozenset({"100644", "100755", "100664"})


@dataclass(frozen=True)
class TreeEntry:
    """A file in a commit or in the index.

    Attributes:
        path: Relative to the top of the work tree, with ``/``.
        oid: Object id, hexadecimal.
        mode: As git prints it, for example ``100644``.
        stage: 0 unless a merge left it undecided.
    """

    path: str
    oid: str
    mode: str
    stage: int = 0

    @property
    def regular(self) -> bool:
        """Whether it is a file, not a link or a submodule."""
        return self.mode in _REGULAR_MODES


def update_index(run: RunGit, entries: Iterable[TreeEntry]) -> None:
    """Put entries into an index, all or none; their stat data is unknown to git until it reads the files.

    Args:
        run: As ``Repository.run``.
        entries: What the index is to hold. The mode ``0`` removes a path.

    Raises:
        RepositoryError: The index is locked or cannot be written.
    """
    lines = "".join(f"{entry.mode} {entry.oid} {entry.stage}\t{entry.path}\0" for entry in entries)
    if lines:
        run("update-index", "-z", "--index-info", input=lines.encode(errors="surrogateescape"))


def index_entry(line: str) -> TreeEntry:
    """Read ``MODE OID STAGE<tab>PATH``, as git prints entries of the index."""
    facts, _, path = line.partition("\t")
    mode, oid, stage = facts.split(" ")
    return TreeEntry(path, oid, mode, int(stage))


def tree_entry(line: str) -> TreeEntry:
    """Read ``MODE KIND OID<tab>PATH``, as git prints entries of a tree."""
    facts, _, path = line.partition("\t")
    mode, _, oid = facts.split(" ")
    return TreeEntry(path, oid, mode)
