"""Remember the packs of a remote whose bytes do not match their names, so that nothing relies on them.

A server may have taken wrong bytes for a pack, and give no way to replace them: an LFS server that has an object of the
right size offers no upload. A push stores the tensors in packs of other names then, and marks the damaged ones on a
remote that has marks. A mark may be wrong, or the server be repaired since: whoever reads a pack whole, and finds that
its bytes match its name, relies on it again, and the next push removes the mark.
"""

from __future__ import annotations

import json
from contextlib import suppress
from typing import TYPE_CHECKING

from git_theta_ext.interfaces.remotes import MarkingRemote
from git_theta_ext.model.remote_keys import pack_key, pack_of_key
from git_theta_ext.records import dataclass, replace
from git_theta_ext.transfer.complete import forget_complete
from git_theta_ext.transfer.records import record_path
from git_theta_ext.transfer.retry import retried
from git_theta_ext.util.files import replace_content

if TYPE_CHECKING:
    from collections.abc import Set as AbstractSet
    from pathlib import Path

    from git_theta_ext.interfaces import Remote

_VERSION = 1
_NONE: frozenset[str] = frozenset()


@dataclass(frozen=True)
class _Record:
    """What is known of the packs of a remote.

    Attributes:
        found: Names of packs that were found damaged here, and are not marked.
        marked: Names of packs that are marked on the remote.
        sound: Names of those marked packs whose bytes matched their names when they were read last.
    """

    found: frozenset[str] = _NONE
    marked: frozenset[str] = _NONE
    sound: frozenset[str] = _NONE

    @property
    def damaged(self) -> frozenset[str]:
        """The names of the packs that nothing relies on."""
        return self.found | (self.marked - self.sound)


def read_damaged(root: Path, url: str) -> frozenset[str]:
    """Return the names of packs that were found damaged on a remote."""
    return _read(root, url).damaged


def note_damaged(root: Path, url: str, damaged: AbstractSet[str], sound: AbstractSet[str] = _NONE) -> None:
    """Record which packs of a remote were found damaged. A failure is ignored: they will be found again.

    Args:
        root: Root of the store.
        url: URL of the remote.
        damaged: Names of packs with other bytes than their names say.
        sound: Names of packs whose bytes match their names now.
    """
    record = _read(root, url)
    found = (record.found - sound) | damaged
    _write(root, url, record, replace(record, found=found, sound=(record.sound | sound & record.marked) - damaged))


def learn_damaged(root: Path, url: str, plugin: Remote) -> None:
    """Record which packs of a remote are marked as damaged, if the remote has marks.

    Raises:
        RemoteError: It cannot be reached.
    """
    if isinstance(plugin, MarkingRemote):
        names = map(pack_of_key, retried(plugin.marked))
        marked = frozenset(name for name in names if name is not None)
        record = _read(root, url)
        # What is marked counts as damaged only as long as it is: somebody else may find it sound.
        _write(root, url, record, _Record(record.found - marked, marked, record.sound & marked))


def tell_damaged(root: Path, url: str, plugin: Remote) -> None:
    """Mark the packs that were found damaged, and remove the marks of sound ones, if the remote has marks.

    Raises:
        RemoteError: It cannot be reached.
    """
    record = _read(root, url)
    if isinstance(plugin, MarkingRemote):
        if record.found:
            retried(lambda: plugin.mark(map(pack_key, record.found)))
        if record.sound:
            retried(lambda: plugin.unmark(map(pack_key, record.sound)))
        if record.found or record.sound:
            learn_damaged(root, url, plugin)


def _read(root: Path, url: str) -> _Record:
    try:
        record = json.loads(record_path(root, url, "damaged").read_bytes())
        if record["version"] != _VERSION:
            return _Record()
        names = (record["packs"], record.get("marked", ()), record.get("sound", ()))
        return _Record(*(frozenset(map(str, several)) for several in names))
    except (OSError, ValueError, LookupError, TypeError, AttributeError):
        return _Record()


def _write(root: Path, url: str, before: _Record, record: _Record) -> None:
    if record == before:
        return
    data = {
        "version": _VERSION,
        "packs": sorted(record.found),
        "marked": sorted(record.marked),
        "sound": sorted(record.sound),
    }
    with suppress(OSError):
        path = record_path(root, url, "damaged")
        path.parent.mkdir(parents=True, exist_ok=True)
        replace_content(path, json.dumps(data).encode())
    if record.damaged - before.damaged:
        forget_complete(root, url)
