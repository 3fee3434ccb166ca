"""Find the damaged packs that may be why tensors are missing."""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING

from git_theta_ext.errors import MissingError
from git_theta_ext.store.locations import flattened
from git_theta_ext.util.files import sha256_of

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

    from git_theta_ext.model.tensor import Digest
    from git_theta_ext.store.inventory import Inventory


class DamagedFiles:
    """Compares the files of packs with their names, each once.

    Args:
        store: The store that has the packs.
    """

    def __init__(self, store: Inventory) -> None:
        self._store = store
        self._damaged: dict[Path, bool] = {}

    def behind(self, absent: Iterable[Digest]) -> list[str]:
        """Return the names of damaged packs that have, or may have, tensors that cannot be decoded.

        The bases of a tensor may be missing because its pack has wrong names of them. A pack whose header cannot be
        read is not in the index.
        """
        wanted, listed = set(absent), self._store.index.packs()
        suspects = {path for root, path in self._store.pack_files() if (str(root), path.name) not in listed}
        held = (*flattened(self._store.locations(wanted)), *flattened(self._store.index.locations(wanted)))
        for name in {location.pack for _, location in held}:
            with suppress(MissingError):  # another process has just removed it
                suspects.add(self._store.path_of(name))
        return sorted(path.name for path in suspects if self._is_damaged(path))

    def _is_damaged(self, path: Path) -> bool:
        if path not in self._damaged:
            self._damaged[path] = False
            with suppress(OSError):
                self._damaged[path] = sha256_of(path) != path.name
        return self._damaged[path]
