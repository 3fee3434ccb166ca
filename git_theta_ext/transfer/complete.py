"""Which commits a remote is known to hold completely, so that a push need not walk all of history each time.

The note holds object ids of commits and the names of the packs on the remote that all their history is decoded from.
Packs never change under a name. So the note is right, whatever remote it is compared with, as long as all these packs
are there: a remote that was moved, emptied or repacked shows in its listing, and history is walked anew.
"""

from __future__ import annotations

import json
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING

from git_theta_ext.transfer.remote_index import heads_folder
from git_theta_ext.util.files import replace_content

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path


_VERSION = 1
_MOST_TIPS = 1000


@dataclass(frozen=True)
class Complete:
    """Commits whose history a remote holds the parameters of.

    Attributes:
        tips: Object ids, the latest first; with each, all that it reaches.
        packs: Names of the packs that this depends on.
        boundary: Where history ended for lack of commits when this was found out, as in a shallow clone.
    """

    tips: tuple[str, ...] = ()
    packs: frozenset[str] = frozenset()
    boundary: str = ""

    def plus(self, tips: Iterable[str], packs: Iterable[str]) -> Complete:
        """Return the same with more commits, which depend on more packs; old ones make room for new ones."""
        every = tuple(dict.fromkeys([*tips, *self.tips]))[:_MOST_TIPS]
        return Complete(every, self.packs.union(packs), self.boundary)


def read_complete(root: Path, url: str, boundary: str) -> Complete:
    """Read a store's note on a remote; an empty one where there is none, or where it is of another boundary."""
    nothing = Complete(boundary=boundary)
    try:
        note = json.loads(_path(root, url).read_bytes())
        found = Complete(tuple(map(str, note["tips"])), frozenset(map(str, note["packs"])), note["boundary"])
        return found if note["version"] == _VERSION and found.boundary == boundary else nothing
    except (OSError, ValueError, LookupError, TypeError):  # derived: whatever is wrong with it, history can be walked
        return nothing


def write_complete(root: Path, url: str, complete: Complete) -> None:
    """Keep the note on a remote; that it cannot be written is no error."""
    note = {
        "version": _VERSION,
        "tips": complete.tips,
        "packs": sorted(complete.packs),
        "boundary": complete.boundary,
    }
    with suppress(OSError):
        replace_content(_path(root, url), json.dumps(note).encode())


def _path(root: Path, url: str) -> Path:
    folder = heads_folder(root, url)
    return folder.with_name(f"{folder.name}.complete")
