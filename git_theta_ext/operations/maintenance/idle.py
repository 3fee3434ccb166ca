"""Remember that ``git theta gc`` had nothing to do, so that the next one need not read all history to find that out.

The record only ever leads to doing nothing. It is not used for deciding what may be removed, and it may be deleted.
"""

from __future__ import annotations

import json
from contextlib import suppress
from typing import TYPE_CHECKING

from blake3 import blake3

from git_theta_ext.git.snapshot import snapshot
from git_theta_ext.records import dataclass
from git_theta_ext.util.files import replace_content
from git_theta_ext.version import __version__

if TYPE_CHECKING:
    from pathlib import Path

    from git_theta_ext.operations.workspace import Workspace
    from git_theta_ext.store.maintenance.gc import Garbage
    from git_theta_ext.store.store import Store

_FORMAT = 2
"""Increase it if gc does more than before, since a record says that there is nothing to do."""


@dataclass(frozen=True)
class Idle:
    """The record of a collection that changed nothing.

    Attributes:
        state: What ``state_of`` returned before.
        waiting: Names of the packs with unreachable tensors that were too young to be removed.
        young: Bytes of these tensors.
    """

    state: str
    waiting: tuple[str, ...]
    young: int


def state_of(workspace: Workspace) -> str | None:
    """Return a digest of all that a collection depends on, except the age of packs; None if there is no such digest.

    Raises:
        StoreError: The index cannot be read.
    """
    store = workspace.store
    repository = snapshot(workspace.repo)
    if repository is None:
        return None
    hasher = blake3(f"{__version__} {workspace.settings.chain_depth} {repository}".encode())
    for root, entry in store.pack_entries():
        hasher.update(f"\0{root}\0{entry.name}".encode(errors="surrogateescape"))
    return hasher.hexdigest()


def read_idle(store: Store, state: str | None, older_than: float) -> Idle | None:
    """Return the record of a collection in the same state, if nothing has become old enough to be removed since.

    Raises:
        StoreError: The index cannot be read.
    """
    if state is None or store.index.loose(str(store.root)) or not store.verdicts.all_sound():
        return None
    try:
        note = json.loads(_path(store).read_bytes())
        idle = Idle(str(note["state"]), tuple(map(str, note["waiting"])), int(note["young"]))
        if note["format"] != _FORMAT or idle.state != state:
            return None
        too_young = all(store.pack_path(name).stat().st_mtime >= older_than for name in idle.waiting)
    except (OSError, ValueError, LookupError, TypeError):  # derived data: without it, history is read
        return None
    return idle if too_young else None


def write_idle(store: Store, state: str | None, garbage: Garbage) -> None:
    """Write the record of a collection that changed nothing. A failure is ignored."""
    if state is not None:
        note = {"format": _FORMAT, "state": state, "waiting": garbage.waiting, "young": garbage.young}
        with suppress(OSError):
            replace_content(_path(store), json.dumps(note).encode())


def _path(store: Store) -> Path:
    return store.root / "idle.json"
