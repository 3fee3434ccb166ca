"""Make written packs durable, and give them their names and places."""

from __future__ import annotations

from contextlib import ExitStack
from functools import lru_cache, partial
from typing import TYPE_CHECKING, TypeAlias
from weakref import finalize

from git_theta_ext.store.packs.file_names import names_of
from git_theta_ext.store.temporary import temporary
from git_theta_ext.util.files import reporting_os_errors, sync_directories, sync_file
from git_theta_ext.util.threads import pool

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from git_theta_ext.store.packs.format import Entry

_FINISHERS, _NAMED_TOGETHER = 4, 2
"""Threads that finish packs, and the packs that one of them finishes together."""

_ALONE = 1 << 23
"""Bytes that are in one or two packs, which a single thread would finish after they are encoded."""

Written: TypeAlias = "tuple[Path, tuple[Entry, ...], str | None]"
"""Path and entries of a pack, and its name if that is known."""

Finished: TypeAlias = "tuple[str, tuple[Entry, ...], set[Path]]"
"""Name and entries of a pack, and the directories to sync."""


@lru_cache(1 << 12)  # it is asked for each tensor
def pack_path(root: Path, name: str) -> Path:
    """Return the path of a pack in a store."""
    return root / "packs" / name[:2] / name


def pack_file(root: str, name: str) -> str:
    """Return the same as text, for calls about thousands of packs, of which each takes less time than making a path."""
    return f"{root}/packs/{name[:2]}/{name}"


def place_pack(root: Path, unfinished: Path, name: str) -> set[Path]:
    """Rename a finished pack to its path. It is durable when the returned directories are synced."""
    final = pack_path(root, name)
    final.parent.mkdir(parents=True, exist_ok=True)
    unfinished.replace(final)
    return {final.parent, final.parent.parent}


class WrittenPacks:
    """Packs that are written but for their names.

    Threads finish them while others are encoded, unless starting these takes longer.

    Args:
        root: Root of the store.
        nbytes: Bytes of all their tensors.
    """

    def __init__(self, root: Path, nbytes: int) -> None:
        self._root = root
        self._made: list[Path] = []
        self._waiting: list[Written] = []
        self._finishing: list[Callable[[], list[Finished]]] = []
        self._stack = ExitStack()
        self._executor = self._stack.enter_context(pool(_FINISHERS, nbytes, _ALONE))
        finalize(self, _remove, self._made)  # if an error elsewhere ends the program before they are finished

    def new_path(self) -> Path:
        """Return the path of a temporary file, which is removed at the end if it is still there."""
        path = temporary(self._root)
        self._made.append(path)
        return path

    def add(self, path: Path, entries: tuple[Entry, ...], name: str | None) -> None:
        """Add a pack that is written, with its name if that is known."""
        self._waiting.append((path, entries, name))
        if len(self._waiting) == _NAMED_TOGETHER:
            self.finish_rest()

    def finish_rest(self) -> None:
        """Begin to finish the packs that are left, or finish them if there are no threads."""
        finish = partial(finish_packs, self._root, self._waiting)
        self._waiting = []
        if self._executor is not None:
            self._finishing.append(self._executor.submit(finish).result)
        else:
            finished = finish()
            self._finishing.append(lambda: finished)

    def finished(self) -> list[tuple[str, tuple[Entry, ...]]]:
        """Wait until all packs are durable, and return the name and the entries of each.

        Raises:
            StoreError: A pack cannot be made durable. No temporary file is left.
        """
        try:
            with reporting_os_errors(self._root):
                done = [finished for result in self._finishing for finished in result()]
                # All at once: one flush of the journal covers all directories.
                sync_directories({directory for _, _, directories in done for directory in directories})
                return [(name, entries) for name, entries, _ in done]
        finally:
            self.close()

    def close(self) -> None:
        """Wait for the threads, and remove the temporary files."""
        self._stack.close()
        _remove(self._made)


def _remove(paths: list[Path]) -> None:
    while paths:
        paths.pop().unlink(missing_ok=True)


def finish_packs(root: Path, written: Sequence[Written]) -> list[Finished]:
    """Make written packs durable and give them their names, which are returned with the directories to sync."""
    finished: list[Finished] = []
    names = iter(names_of([path for path, _, name in written if name is None]))
    for path, entries, known in written:
        name = next(names) if known is None else known
        sync_file(path)
        path.chmod(path.stat().st_mode & 0o444)
        finished.append((name, entries, place_pack(root, path, name)))
    return finished
