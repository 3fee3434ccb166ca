"""The files that git lists in a commit or in the index."""

from __future__ import annotations

from typing import TYPE_CHECKING

from git_theta_ext.records import dataclass

if TYPE_CHECKING:
    from collections.abc import Iterable

    from git_theta_ext.git.process import RunGit

REGULAR, EXECUTABLE = "100644", "100755"
"""The modes of files."""
DIRECTORY = "040000"
SUBMODULE = "160000"

_REGULAR_MODES = frozenset({REGULAR, EXECUTABLE, "100664"})


@dataclass(frozen=True)
class TreeEntry:
    """A file in a commit or in the index.

    Attributes:
        path: Path relative to the top of the work tree, with ``/``.
        oid: Object id, hexadecimal.
        mode: As git prints it, for example ``100644``.
        stage: 0, or 1 to 3 for the versions of a path in conflict.
    """

    path: str
    oid: str
    mode: str
    stage: int = 0

    @property
    def regular(self) -> bool:
        """Whether it is a regular file, not a symbolic link or a submodule."""
        return is_regular(self.mode)


def is_regular(mode: str) -> bool:
    """Return whether a mode is that of a regular file."""
    return mode in _REGULAR_MODES


def update_index(run: RunGit, entries: Iterable[TreeEntry]) -> None:
    """Put entries into an index, all or none; git has no stat data for them until it reads the files.

    Args:
        run: Runs git, as ``Repository.run`` does.
        entries: The new entries. The mode ``0`` removes a path.

    Raises:
        RepositoryError: The index is locked or cannot be written.
    """
    lines = "".join(f"{entry.mode} {entry.oid} {entry.stage}\t{entry.path}\0" for entry in entries)
    if lines:
        run("update-index", "-z", "--index-info", input=lines.encode(errors="surrogateescape"))


def index_entry(line: str) -> TreeEntry:
    """Parse ``MODE OID STAGE<tab>PATH``, the format in which git prints index entries."""
    fields, _, path = line.partition("\t")
    mode, oid, stage = fields.split(" ")
    return TreeEntry(path, oid, mode, int(stage))


def tree_entry(line: str) -> TreeEntry:
    """Parse ``MODE KIND OID<tab>PATH``, the format in which git prints tree entries."""
    fields, _, path = line.partition("\t")
    mode, _, oid = fields.split(" ")
    return TreeEntry(path, oid, mode)
