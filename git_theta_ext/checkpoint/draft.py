"""The file that a merge writes while it computes, which the checkout that follows puts in place.

Otherwise the checkout decodes and verifies again what the merge has just encoded. A draft is the file of a single git
process: the one that merges also checks out, so the draft was never read back from a disk that may be faulty. Its name
has the stat data that it had when it was finished, which show whether another program has written to it. If anything is
unusual there is no draft, and the checkout decodes the tensors.
"""

from __future__ import annotations

import os
import stat
from contextlib import suppress
from typing import TYPE_CHECKING, Protocol, TypeVar

from blake3 import blake3

from git_theta_ext.checkpoint.unfinished import can_rename
from git_theta_ext.model.layout import Literal, Slice
from git_theta_ext.util.files import write_at
from git_theta_ext.util.system import free_bytes, open_file

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from typing_extensions import Buffer, Self

    from git_theta_ext.model.layout import Layout
    from git_theta_ext.model.manifest import Manifest, Parameter

_ROOM = 3
"""Free space that a draft needs, in sizes of the checkpoint: its packs are written at the same time."""
_HELD = 1 << 24
"""Bytes of tensors that wait for those before them."""


class _Named(Protocol):
    @property
    def names(self) -> tuple[str, ...]: ...


_Tensor = TypeVar("_Tensor", bound=_Named)


class Draft:
    """A checkpoint that is written from its beginning to its end, as ``populate`` does and for the same reason.

    Args:
        path: The file to write, which must not exist.
        layout: The layout of the checkpoint, of literals and slices only.

    Raises:
        OSError: The file cannot be created.
    """

    def __init__(self, path: Path, layout: Layout) -> None:
        self._path = path
        self._parts = list(layout.located())[::-1]
        self._order = {name: number for number, name in enumerate(layout.parameters)}
        self._waiting: dict[str, tuple[Parameter, Buffer]] = {}
        self._held = 0
        self._written: dict[str, Parameter] = {}
        self._descriptor = open_file(path, os.O_RDWR | os.O_CREAT | os.O_EXCL)

    @classmethod
    def begin(cls, path: Path, target: Path, layout: Layout) -> Self | None:
        """Begin a draft, unless there is little space, or the file could not be renamed to its target.

        Args:
            path: The file to write.
            target: Path of the checkpoint.
            layout: Its layout.
        """
        if layout.packings or not all(isinstance(part, Literal | Slice) for part in layout.segments):
            return None
        with suppress(OSError):
            path.parent.mkdir(parents=True, exist_ok=True)
            if free_bytes(path.parent) >= _ROOM * layout.nbytes and can_rename(path.parent, target):
                return cls(path, layout)
        return None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._give_up()

    def in_file_order(self, tensors: Sequence[_Tensor]) -> list[_Tensor]:
        """Return tensors in the order in which they are in the file."""
        return sorted(tensors, key=lambda tensor: min(self._order.get(name, 0) for name in tensor.names))

    def add(self, names: Sequence[str], value: Parameter, data: Buffer) -> None:
        """Write a tensor when all tensors before it are written. The draft is given up if too many are waiting.

        Args:
            names: The parameters that have this value.
            value: Element type, shape and digest.
            data: The bytes that the digest is of.
        """
        if self._descriptor < 0:
            return
        self._waiting.update(dict.fromkeys(names, (value, data)))
        self._held += value.spec.nbytes * len(names)
        try:
            self._write()
        except OSError:
            self._give_up()
        if self._held > _HELD:
            self._give_up()

    def finish(self, manifest: Manifest) -> None:
        """Let a checkout have the file, if it is the checkpoint with a manifest, whose layout is that of the draft."""
        if self._descriptor < 0 or self._parts or manifest.conflicted or self._written != dict(manifest.parameters):
            return
        with suppress(OSError):
            finished = self._path.with_name(_identity(manifest) + _state(os.fstat(self._descriptor)))
            self._path.replace(finished)

    def _write(self) -> None:
        while self._parts:
            at, part = self._parts[-1]
            if isinstance(part, Slice):
                if part.name not in self._waiting:
                    return
                value, data = self._waiting.pop(part.name)
                write_at(self._descriptor, memoryview(data), at)
                self._held -= value.spec.nbytes
                self._written[part.name] = value
            elif isinstance(part, Literal):
                write_at(self._descriptor, memoryview(part.data), at)
            self._parts.pop()

    def _give_up(self) -> None:
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1
            self._waiting.clear()
            self._path.unlink(missing_ok=True)


def finished_draft(folder: Path, manifest: Manifest, target: Path) -> Path | None:
    """Return the draft of a checkpoint that can be renamed to its path, or None.

    Args:
        folder: Where the git process that checks it out may have left drafts.
        manifest: The manifest.
        target: The path.
    """
    with suppress(OSError):
        entries = [*folder.iterdir()]
        identity = _identity(manifest) if entries else ""
        for entry in entries:
            if not entry.name.startswith(identity):
                continue
            status = entry.lstat()
            unchanged = entry.name == identity + _state(status) and stat.S_ISREG(status.st_mode)
            if unchanged and os.access(entry, os.R_OK | os.W_OK) and can_rename(folder, target):
                return entry
    return None


def remove_drafts(folder: Path) -> None:
    """Remove a directory of drafts, if there is one."""
    with suppress(OSError):
        for entry in folder.iterdir():
            entry.unlink()
        folder.rmdir()


def _identity(manifest: Manifest) -> str:
    return f"{blake3(manifest.to_bytes()).hexdigest()}-"


def _state(status: os.stat_result) -> str:
    return "-".join(map(str, (status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns)))
