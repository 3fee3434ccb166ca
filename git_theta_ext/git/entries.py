"""Files as git lists them, in a commit or in the index."""

from __future__ import annotations

from dataclasses import dataclass

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
