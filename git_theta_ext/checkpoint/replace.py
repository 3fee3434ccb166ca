"""Put a file in the place of another, and of no other: what another program saves there meanwhile is kept."""

from __future__ import annotations

import errno
import os
import stat
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING, Any

from git_theta_ext.checkpoint.writers import being_written
from git_theta_ext.util.files import temporary_beside

if TYPE_CHECKING:
    from pathlib import Path

_AT_FDCWD = -100
_RENAME_NOREPLACE = 1
_RENAME_EXCHANGE = 2
# What renameat2(2) answers if the kernel or the file system does not know a flag.
_UNKNOWN = frozenset({errno.ENOSYS, errno.EINVAL, errno.EOPNOTSUPP})


@dataclass(frozen=True)
class Expected:
    """The file that may be replaced.

    Attributes:
        stat: What ``os.lstat`` said of it; None if nothing may be there.
        content: Its bytes, if they are few enough to be compared.
    """

    stat: os.stat_result | None
    content: bytes | None = None

    @classmethod
    def at(cls, path: Path) -> Expected:
        """Return what is at a path now."""
        try:
            return cls(path.lstat())
        except FileNotFoundError:
            return cls(None)

    def holds(self, path: Path) -> bool:
        """Return whether a path names that very file, as it was, with nobody writing to it."""
        if self.stat is None:
            return not os.path.lexists(path)
        try:
            if stat.S_ISLNK(self.stat.st_mode):
                return identity(path.lstat()) == identity(self.stat)
            descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
        except PermissionError:  # unreadable files can be replaced as well
            return self.content is None and identity(path.lstat()) == identity(self.stat)
        except OSError:
            return False
        try:
            found = os.fstat(descriptor)
            if identity(found) != identity(self.stat) or not stat.S_ISREG(found.st_mode) or being_written(descriptor):
                return False
            return self.content is None or os.pread(descriptor, len(self.content) + 1, 0) == self.content
        finally:
            os.close(descriptor)


def identity(found: os.stat_result) -> tuple[int, ...]:
    """Return what stays as it is when a file gets another name, and changes when somebody writes to it."""
    return (found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns)


def replace_file(new: Path, path: Path, expected: Expected) -> bool:
    """Make ``path`` name the file that ``new`` names, if it names the expected file until then.

    ext4 writes a file to disk when it is renamed over another (ext4(5), ``auto_da_alloc``), which takes longer than
    decoding it. So the names are exchanged instead. That also shows which file was there at that very moment: if it is
    another one, or has been changed, the names are exchanged again. At no moment is ``path`` missing, unless the system
    cannot exchange names.

    Args:
        new: On the same file system.
        path: May be missing.
        expected: What may be replaced.

    Returns:
        Whether it was done; if it was, ``new`` is gone, and if not, ``path`` is what others made of it.

    Raises:
        OSError: The file system refused; both are as they were.
    """
    if not expected.holds(path):
        return False
    if expected.stat is None:
        return _place(new, path)
    ours = identity(new.lstat())
    failure = _rename(new, path, _RENAME_EXCHANGE)
    if failure == errno.ENOENT:
        return False  # somebody removed it this moment
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
    """Exchange a file that somebody saved with ours, until nothing that was saved later is without its name.

    A file that comes out of an exchange a second time was itself replaced, by the program that saved the later one.
    """
    seen = {ours}
    while (found := identity(other.lstat())) not in seen:
        seen.add(found)
        failure = _rename(other, path, _RENAME_EXCHANGE)
        if failure == errno.ENOENT and _place(other, path):
            return
        if failure not in {0, errno.ENOENT}:
            raise OSError(failure, os.strerror(failure), str(path))
    other.unlink()


def _replace_aside(new: Path, path: Path, expected: Expected) -> bool:
    """Replace a file on a system that cannot exchange names: move it aside, look at it, then put the new one there."""
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
    if done or not _place(aside, path):  # what somebody saved since then is younger than what lies aside
        aside.unlink()
    return done


def _place(new: Path, path: Path) -> bool:
    """Give a file a name that no file has; return whether it was still free."""
    failure = _rename(new, path, _RENAME_NOREPLACE)
    if failure in _UNKNOWN:
        try:
            path.hardlink_to(new)
        except FileExistsError:
            return False
        except OSError:  # some file systems know no links
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
    """Call renameat2(2); return 0 or the number of the error."""
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

    function = getattr(ctypes.CDLL(None, use_errno=True), "renameat2", None)
    if function is not None:
        function.argtypes = (ctypes.c_int, ctypes.c_char_p, ctypes.c_int, ctypes.c_char_p, ctypes.c_uint)
    return function
