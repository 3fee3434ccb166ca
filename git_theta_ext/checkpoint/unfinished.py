"""Temporary files without a name, of which a crash leaves nothing."""

from __future__ import annotations

import os
import stat
from contextlib import suppress
from typing import TYPE_CHECKING

from git_theta_ext.checkpoint.replace import replace_file
from git_theta_ext.model.manifest import MAGIC, is_manifest
from git_theta_ext.store.temporary import clear_stale, temporary
from git_theta_ext.util.files import temporaries_beside, temporary_beside
from git_theta_ext.util.system import (
    NOFOLLOW,
    NONBLOCK,
    copy_attributes,
    lock,
    open_directory,
    open_file,
    pread,
    set_mode,
    set_owner,
)

if TYPE_CHECKING:
    from pathlib import Path
    from types import TracebackType

    from typing_extensions import Self

    from git_theta_ext.checkpoint.replace import Expected

NAMELESS = getattr(os, "O_TMPFILE", 0)
"""The flag that creates a file without a name in a directory; 0 if the system has none."""

_OPENED = "/proc/self/fd"


class Unfinished:
    """A temporary file that is to replace another file in the same directory.

    It gets the owner, the group and the access control list that the directory gives to new files. If the file system
    does not support files without a name, the file is in the directory of the store, or in that of the replaced file if
    the store is on another file system.

    Args:
        path: Path of the file to replace.
        root: Root of the store.
        named: Give the file a name from the beginning, by which other processes can open it.
        made: A file that can be renamed to ``path``, which is used in place of a new one.

    Raises:
        OSError: The file cannot be created or opened.
    """

    def __init__(self, path: Path, root: Path, *, named: bool = False, made: Path | None = None) -> None:
        self._path = path
        self._root = root
        self._name: Path | None = made
        self._marks: list[int] = []
        self.descriptor = -1
        with suppress(OSError):  # a read-only store
            clear_stale(root)
        if made is not None:
            self.descriptor = open_file(made, os.O_RDWR | NOFOLLOW)
        elif NAMELESS and not named and os.path.isdir(_OPENED):  # noqa: PTH112 - no path to be handled
            with suppress(OSError):  # not every file system supports files without a name
                self.descriptor = open_file(path.parent, os.O_RDWR | NAMELESS)
        if self.descriptor < 0:
            self._name = self._free_name()
            self.descriptor = open_file(self._name, os.O_RDWR | os.O_CREAT | os.O_EXCL)

    @property
    def path(self) -> Path:
        """The name that the file has now."""
        assert self._name is not None
        return self._name

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
        """Replace the file, and give the new one the mode of the old one.

        Args:
            expected: The file that may be replaced.

        Returns:
            Whether the file was replaced, which it is not if another file is there.

        Raises:
            OSError: The file system reports an error. The old file is unchanged.
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
                set_owner(self.descriptor, -1 if old.st_uid == new.st_uid else old.st_uid, old.st_gid)
        if stat.S_ISREG(old.st_mode):
            copy_attributes(self._path, self.descriptor)
            set_mode(self.descriptor, stat.S_IMODE(old.st_mode))

    def _linked(self) -> Path:
        """Give the file a temporary name."""
        try:
            return self._link(temporary(self._root))
        except OSError:  # another file system or mount, or a read-only store
            return self._link(self._beside())

    def _link(self, name: Path) -> Path:
        # Python follows the symbolic link only if a directory descriptor is given, which has no other effect here.
        os.link(f"{_OPENED}/{self.descriptor}", name, src_dir_fd=self.descriptor)
        return name

    def _free_name(self) -> Path:
        try:
            name = temporary(self._root)
            if can_rename(name.parent, self._path):
                return name
        except OSError:  # also a read-only store
            pass
        return self._beside()

    def _beside(self) -> Path:
        self._marks.append(_locked(self._path.parent, shared=True))
        return temporary_beside(self._path)


def can_rename(directory: Path, path: Path) -> bool:
    """Return whether files in a directory can be renamed to a path.

    Raises:
        OSError: There is no such directory.
    """
    if directory.stat().st_dev != path.parent.stat().st_dev:
        return False
    try:
        # No file has this name, so the error shows whether a rename is possible: between two mounts of one file system
        # it is not, although they look the same.
        (directory / os.urandom(16).hex()).rename(path)
    except FileNotFoundError:
        return True
    except OSError:
        pass
    return False


def clear_leftovers(path: Path) -> None:
    """Remove temporary files that a killed process left beside a checkpoint, unless another program saved them.

    Before the exchange of names the path has the manifest, and the temporary file is the checkpoint. After it the
    temporary file is the manifest.

    Args:
        path: Path of the checkpoint.
    """
    with suppress(OSError):
        left = temporaries_beside(path)
        if not left:
            return
        mark = _locked(path.parent, shared=False)
        try:
            for entry in left:
                if _manifest_at(path) or _manifest_at(entry):
                    entry.unlink()
        finally:
            os.close(mark)


def _locked(directory: Path, *, shared: bool) -> int:
    """Wait for a shared lock of a directory, or take the exclusive one without waiting; return its descriptor."""
    descriptor = open_directory(directory)
    try:
        lock(descriptor, shared=shared, wait=shared)
    except BlockingIOError:
        os.close(descriptor)
        raise
    except OSError:  # on a file system that cannot lock directories, leftovers look like files in use
        if not shared:
            os.close(descriptor)
            raise
    return descriptor


def _manifest_at(path: Path) -> bool:
    descriptor = open_file(path, os.O_RDONLY | NOFOLLOW | NONBLOCK)
    try:
        return is_manifest(pread(descriptor, len(MAGIC), 0))
    finally:
        os.close(descriptor)
