"""Replace a file only if it is the expected one: files that other programs save at the same time are kept."""

from __future__ import annotations

import errno
import os
import stat
from functools import cache
from typing import TYPE_CHECKING, Any

from git_theta_ext.checkpoint.writers import being_written
from git_theta_ext.records import dataclass
from git_theta_ext.util.files import temporary_beside
from git_theta_ext.util.system import NOFOLLOW, NONBLOCK, open_file, pread

if TYPE_CHECKING:
    from pathlib import Path

_AT_FDCWD = -100
_RENAME_NOREPLACE = 1
_RENAME_EXCHANGE = 2
# Errors of renameat2(2) if the kernel or the file system does not support a flag.
_UNKNOWN = frozenset({errno.ENOSYS, errno.EINVAL, errno.EOPNOTSUPP})


@dataclass(frozen=True)
class Expected:
    """The file that may be replaced.

    Attributes:
        stat: Its ``os.lstat`` result; None if there must be no file.
        content: Its bytes, if it is small enough to compare them.
    """

    stat: os.stat_result | None
    content: bytes | None = None

    @classmethod
    def at(cls, path: Path) -> Expected:
        """Return the current file at a path."""
        try:
            return cls(path.lstat())
        except FileNotFoundError:
            return cls(None)

    def holds(self, path: Path) -> bool:
        """Return whether a path still names this file, unchanged, and no program has it open for writing."""
        if self.stat is None:
            return not os.path.lexists(path)
        try:
            if stat.S_ISLNK(self.stat.st_mode):
                return identity(path.lstat()) == identity(self.stat)
            descriptor = open_file(path, os.O_RDONLY | NOFOLLOW | NONBLOCK)
        except PermissionError:  # unreadable files can be replaced as well
            return self.content is None and identity(path.lstat()) == identity(self.stat)
        except OSError:
            return False
        try:
            current = os.fstat(descriptor)
            if (
                identity(current) != identity(self.stat)
                or not stat.S_ISREG(current.st_mode)
                or being_written(descriptor)
            ):
                return False
            return self.content is None or pread(descriptor, len(self.content) + 1, 0) == self.content
        finally:
            os.close(descriptor)


def identity(status: os.stat_result) -> tuple[int, ...]:
    """Return the part of a stat that is kept when a file is renamed, and changes when it is written."""
    return (status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns)


def replace_file(new: Path, path: Path, expected: Expected) -> bool:
    """Rename ``new`` to ``path``, if ``path`` is the expected file at that moment.

    ext4 writes a file to disk when it is renamed over another (ext4(5), ``auto_da_alloc``), which takes longer than
    decoding it. So the two names are exchanged instead. That also shows which file was replaced: if it is not the
    expected one or has changed, the names are exchanged again. ``path`` exists at all times, unless the system cannot
    exchange names.

    Args:
        new: The new file, on the same file system.
        path: The path to replace. It may be missing.
        expected: The file that may be replaced.

    Returns:
        Whether the file was replaced. If so, ``new`` is gone; if not, ``path`` is the file of the other program.

    Raises:
        OSError: The file system reports an error. Both files are unchanged.
    """
    if not expected.holds(path):
        return False
    if expected.stat is None:
        return _place(new, path)
    ours = identity(new.lstat())
    failure = _rename(new, path, _RENAME_EXCHANGE)
    if failure == errno.ENOENT:
        return False  # another program has just removed it
    if failure in _UNKNOWN:
        return _replace_aside(new, path, expected)
    if failure:
        raise OSError(failure, os.strerror(failure), str(path))
    if expected.holds(new):
        new.unlink()
        return True
    _give_back(new, path, ours)
    return False


def _give_back(other: Path, path: Path, ours: tuple[int, ...]) -> None:
    """Exchange a file that another program saved with ours, until the latest saved file has its name.

    A file that comes out of an exchange for the second time was itself replaced by a later one.
    """
    seen = {ours}
    while (current := identity(other.lstat())) not in seen:
        seen.add(current)
        failure = _rename(other, path, _RENAME_EXCHANGE)
        if failure == errno.ENOENT and _place(other, path):
            return
        if failure not in {0, errno.ENOENT}:
            raise OSError(failure, os.strerror(failure), str(path))
    other.unlink()


def _replace_aside(new: Path, path: Path, expected: Expected) -> bool:
    """Replace a file on a system that cannot exchange names: move it aside, check it, and rename the new one."""
    aside = temporary_beside(path)
    try:
        path.rename(aside)
    except FileNotFoundError:
        return False
    try:
        done = expected.holds(aside) and _place(new, path)
    except BaseException:
        _place(aside, path)
        raise
    if done or not _place(aside, path):  # a file that was saved since is more recent than the one moved aside
        aside.unlink()
    return done


def _place(new: Path, path: Path) -> bool:
    """Rename a file to a path that must not exist; return whether it did not."""
    failure = _rename(new, path, _RENAME_NOREPLACE)
    if failure in _UNKNOWN:
        try:
            path.hardlink_to(new)
        except FileExistsError:
            return False
        except OSError:  # some file systems have no links
            if os.path.lexists(path):
                return False
            new.rename(path)
        else:
            new.unlink()
        return True
    if failure not in {0, errno.EEXIST}:
        raise OSError(failure, os.strerror(failure), str(path))
    return not failure


def _rename(one: Path, other: Path, flag: int) -> int:
    """Call renameat2(2), and return 0 or the error number."""
    call = _renameat2()
    if call is None:
        return errno.ENOSYS
    if call(_AT_FDCWD, os.fsencode(one), _AT_FDCWD, os.fsencode(other), flag) == 0:
        return 0
    import ctypes

    return ctypes.get_errno()


@cache
def _renameat2() -> Any:
    import ctypes

    try:
        library = ctypes.CDLL(None, use_errno=True)
    except TypeError:  # Windows opens libraries by name alone
        return None
    function = getattr(library, "renameat2", None)
    if function is not None:
        function.argtypes = (ctypes.c_int, ctypes.c_char_p, ctypes.c_int, ctypes.c_char_p, ctypes.c_uint)
    return function
