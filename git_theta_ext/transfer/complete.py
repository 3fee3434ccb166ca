"""Remember the commits whose parameters are all on a remote, so that a push need not walk the whole history.

The record has object ids of commits, and the names of the packs on the remote that their whole history is decoded from.
A pack with a given name never changes. So the record is valid for any remote that has all of these packs. If a remote
was moved, emptied or repacked, its listing shows that, and the history is walked again.
"""

from __future__ import annotations

import json
from contextlib import suppress
from typing import TYPE_CHECKING

from git_theta_ext.records import dataclass
from git_theta_ext.transfer.records import record_path
from git_theta_ext.util.files import replace_content

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path


_VERSION = 1
_MOST_TIPS = 1000


@dataclass(frozen=True)
class Complete:
    """Commits with all parameters of their history on a remote.

    Attributes:
        tips: Object ids of commits, the latest first. Each includes all commits that it reaches.
        packs: Names of the packs that the record depends on.
        boundary: Where the local history ended when the record was made, as in a shallow clone.
    """

    tips: tuple[str, ...] = ()
    packs: frozenset[str] = frozenset()
    boundary: str = ""

    def plus(self, tips: Iterable[str], packs: Iterable[str]) -> Complete:
        """Return a record with more commits, which depend on more packs; too many tips push out the oldest."""
        every = tuple(dict.fromkeys([*tips, *self.tips]))[:_MOST_TIPS]
        return Complete(every, self.packs.union(packs), self.boundary)


def read_complete(root: Path, url: str, boundary: str) -> Complete:
    """Read the record of a remote; an empty one if there is none, or if it has another boundary."""
    nothing = Complete(boundary=boundary)
    try:
        note = json.loads(_path(root, url).read_bytes())
        record = Complete(tuple(map(str, note["tips"])), frozenset(map(str, note["packs"])), note["boundary"])
        return record if note["version"] == _VERSION and record.boundary == boundary else nothing
    except (OSError, ValueError, LookupError, TypeError):  # derived data: if it cannot be read, history is walked
        return nothing


def write_complete(root: Path, url: str, complete: Complete) -> None:
    """Write the record of a remote. A failure is ignored."""
    note = {
        "version": _VERSION,
        "tips": complete.tips,
        "packs": sorted(complete.packs),
        "boundary": complete.boundary,
    }
    with suppress(OSError):
        replace_content(_path(root, url), json.dumps(note).encode())


def forget_complete(root: Path, url: str) -> None:
    """Remove the record of a remote, so that the next push walks the whole history."""
    with suppress(OSError):
        _path(root, url).unlink(missing_ok=True)


def _path(root: Path, url: str) -> Path:
    return record_path(root, url, "complete")
