"""Remember the packs of a remote whose bytes do not match their names, so that nothing relies on them.

A server may have taken wrong bytes for a pack, and give no way to replace them: an LFS server that has an object of the
right size offers no upload. A push stores the tensors in packs of other names then.
"""

from __future__ import annotations

import json
from contextlib import suppress
from typing import TYPE_CHECKING

from git_theta_ext.interfaces.remotes import MarkingRemote
from git_theta_ext.model.remote_keys import pack_key, pack_of_key
from git_theta_ext.transfer.complete import forget_complete
from git_theta_ext.transfer.records import record_path
from git_theta_ext.transfer.retry import retried
from git_theta_ext.util.files import replace_content

if TYPE_CHECKING:
    from collections.abc import Set as AbstractSet
    from pathlib import Path

    from git_theta_ext.interfaces import Remote

_VERSION = 1


def read_damaged(root: Path, url: str) -> frozenset[str]:
    """Return the names of packs that were found damaged on a remote."""
    try:
        record = json.loads(record_path(root, url, "damaged").read_bytes())
        return frozenset(map(str, record["packs"])) if record["version"] == _VERSION else frozenset()
    except (OSError, ValueError, LookupError, TypeError):
        return frozenset()


def note_damaged(root: Path, url: str, damaged: AbstractSet[str], sound: AbstractSet[str] = frozenset()) -> None:
    """Record which packs of a remote were found damaged. A failure is ignored: they will be found again.

    Args:
        root: Root of the store.
        url: URL of the remote.
        damaged: Names of packs with other bytes than their names say.
        sound: Names of packs whose bytes match their names now.
    """
    known = read_damaged(root, url)
    now = (known - sound) | damaged
    if now == known:
        return
    with suppress(OSError):
        path = record_path(root, url, "damaged")
        path.parent.mkdir(parents=True, exist_ok=True)
        replace_content(path, json.dumps({"version": _VERSION, "packs": sorted(now)}).encode())
    if now - known:
        forget_complete(root, url)


def learn_damaged(root: Path, url: str, plugin: Remote) -> None:
    """Record which packs of a remote other users found damaged, if the remote says it.

    Raises:
        RemoteError: It cannot be reached.
    """
    if isinstance(plugin, MarkingRemote):
        names = map(pack_of_key, retried(plugin.marked))
        note_damaged(root, url, {name for name in names if name is not None})


def tell_damaged(root: Path, url: str, plugin: Remote) -> None:
    """Tell other users of a remote which of its packs were found damaged, if the remote can.

    Raises:
        RemoteError: It cannot be reached.
    """
    if isinstance(plugin, MarkingRemote) and (names := read_damaged(root, url)):
        retried(lambda: plugin.mark(map(pack_key, names)))
