"""A file in the making: without a name while it is made, so that a crash leaves nothing of it."""

from __future__ import annotations

import fcntl
import os
import stat
from contextlib import suppress
from typing import TYPE_CHECKING

from git_theta_ext.checkpoint.replace import replace_file
from git_theta_ext.model.manifest import MAGIC, is_manifest
from git_theta_ext.store.packs.writer import clear_stale, temporary
from git_theta_ext.util.files import temporaries_beside, temporary_beside

if TYPE_CHECKING:
    from pathlib import Path
    from types import TracebackType

    from typing_extensions import Self

    from git_theta_ext.checkpoint.replace import Expected

NAMELESS = getattr(os, "O_TMPFILE", 0)
"""The flag that makes a file without a name in a folder; 0 if the system has none."""

_OPENED = "/proc/self/fd"
_MODE = 0o666


class Unfinished:
    """A file that is to be put in the place of another, in the same folder.

    It has the owner, the group and the access control list that the folder gives to files that are made in it. If the
    file system needs a name for it, it lies in the store's folder, or beside its place if that is not on the same file
    system.

    Args:
        path: Its place.
        root: Of the store.

    Raises:
        OSError: The file cannot be made.
    """

    def __init__(self, path: Path, root: Path) -> None:
        self._path = path
        self._root = root
        self._name: Path | None = None
        self._marks: list[int] = []
        self.descriptor = -1
        with suppress(OSError):  # a store that is only read
            clear_stale(root)
        if NAMELESS and os.path.isdir(_OPENED):  # noqa: PTH112 - no path to be handled
            with suppress(OSError):  # not every file system has files without a name
                self.descriptor = os.open(path.parent, os.O_RDWR | NAMELESS | os.O_CLOEXEC, _MODE)
        if self.descriptor < 0:
            self._name = self._free_name()
            self.descriptor = os.open(self._name, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, _MODE)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        os.close(self.descriptor)
        if self._name is not None:
            self._name.unlink(missing_ok=True)
        for mark in self._marks:
            os.close(mark)

    def put(self, expected: Expected) -> bool:
        """Put the file in its place, with the mode of the one that it replaces.

        Args:
            expected: What may be replaced.

        Returns:
            Whether it was done; not if something else lies there.

        Raises:
            OSError: The file system refused; the place is as it was.
        """
        if expected.stat is not None:
            self._resemble(expected.stat)
        if self._name is None:
            self._name = self._linked()
        return replace_file(self._name, self._path, expected)

    def _resemble(self, old: os.stat_result) -> None:
        new = os.fstat(self.descriptor)
        if (old.st_uid, old.st_gid) != (new.st_uid, new.st_gid):
            with suppress(OSError):  # a group that this user is not in
                os.fchown(self.descriptor, -1 if old.st_uid == new.st_uid else old.st_uid, old.st_gid)
        if stat.S_ISREG(old.st_mode):
            _copy_attributes(self._path, self.descriptor)
            os.fchmod(self.descriptor, stat.S_IMODE(old.st_mode))

    def _linked(self) -> Path:
        """Give the file a name, for the moment until it has its own."""
        try:
            return self._link(temporary(self._root))
        except OSError:  # another file system, another mount of this one, or a store that is only read
            return self._link(self._beside())

    def _link(self, name: Path) -> Path:
        # With a folder's descriptor, which does not matter here, Python follows the link in the source.
        os.link(f"{_OPENED}/{self.descriptor}", name, src_dir_fd=self.descriptor)
        return name

    def _free_name(self) -> Path:
        try:
            name = temporary(self._root)
            if name.parent.stat().st_dev == self._path.parent.stat().st_dev:
                # Nothing has this name. Mounts of one file system look alike, and no file gets from one to another.
                name.rename(self._path)
        except FileNotFoundError:
            return name
        except OSError:  # also a store that is only read
            pass
        return self._beside()

    def _beside(self) -> Path:
        self._marks.append(_locked(self._path.parent, fcntl.LOCK_SH))
        return temporary_beside(self._path)


def clear_leftovers(path: Path) -> None:
    """Remove what a killed process left beside a checkpoint's place, if there is nothing in it that others have saved.

    Before names were exchanged that is a checkpoint, and the place has the manifest; behind it, it is the manifest.

    Args:
        path: The place.
    """
    with suppress(OSError):
        left = temporaries_beside(path)
        if not left:
            return
        mark = _locked(path.parent, fcntl.LOCK_EX | fcntl.LOCK_NB)
        try:
            for entry in left:
                if _manifest_at(path) or _manifest_at(entry):
                    entry.unlink()
        finally:
            os.close(mark)


def _locked(folder: Path, how: int) -> int:
    descriptor = os.open(folder, os.O_RDONLY | os.O_CLOEXEC)
    try:
        fcntl.flock(descriptor, how)
    except BlockingIOError:
        os.close(descriptor)
        raise
    except OSError:  # a file system that locks no folders: what is left there cannot be told from what is being made
        if how & fcntl.LOCK_NB:
            os.close(descriptor)
            raise
    return descriptor


def _manifest_at(path: Path) -> bool:
    descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    try:
        return is_manifest(os.pread(descriptor, len(MAGIC), 0))
    finally:
        os.close(descriptor)


def _copy_attributes(path: Path, descriptor: int) -> None:
    """Give a file the extended attributes of another, access control lists among them, as far as that is allowed."""
    if not hasattr(os, "listxattr"):
        return
    with suppress(OSError):
        for name in os.listxattr(path, follow_symlinks=False):
            with suppress(OSError):
                os.setxattr(descriptor, name, os.getxattr(path, name, follow_symlinks=False))
