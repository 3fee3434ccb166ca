"""A directory on this machine or on a network file system.

Objects are shared with the local store if the file system supports it: as a reflink or as a hard link, otherwise they
are copied. They are never changed in place, so a link is as safe as a copy.
"""

from __future__ import annotations

import errno
import os
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path
from shlex import quote
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote, urlsplit

from git_theta_ext.errors import ConfigError, CorruptError, MissingError, RemoteError
from git_theta_ext.interfaces import NOFOLLOW, RemoteType, check_key, check_prefix, is_key, open_file, pread

from ._files import add_file, bring_file, make_folder, remove_stale

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping

    from git_theta_ext.interfaces import RemoteContext

_PIECE = 1 << 24
# How often a directory can be replaced while an upload writes to it: once by each other upload that saw none there.
_ATTEMPTS = 100


def open_remote(url: str, options: Mapping[str, Any], context: RemoteContext) -> Directory:
    """Open the directory at a path or ``file://`` URL.

    Args:
        url: The directory. The first upload creates it; its parent must exist.
        options: No options are supported.
        context: What takes reports.

    Raises:
        ConfigError: The URL names another machine, or its path is not absolute.
    """
    del options
    parts = urlsplit(url) if url.startswith("file:") else None
    path = Path(unquote(parts.path) if parts else url)
    if not path.is_absolute() or (parts and parts.netloc not in {"", "localhost"}):
        raise ConfigError(
            f"{url} is not an absolute path on this machine",
            hint="git config theta.remote.NAME.url /absolute/path",
        )
    return Directory(path, context.report)


REMOTE = RemoteType(("", "file"), open_remote)


class Directory:
    """See ``Remote``.

    Args:
        root: The directory with the objects.
        report: See ``RemoteContext``.
    """

    def __init__(self, root: Path, report: Callable[[str, int], None]) -> None:
        self._root = root
        self._report = report
        self._tidied: set[Path] = set()

    def list(self, prefix: str) -> Iterator[str]:
        """Yield the keys that start with ``prefix``, sorted within each directory."""
        check_prefix(prefix)
        with _as_remote_errors(self._root):
            if self._exists():
                yield from (key for key in self._walk(prefix.rpartition("/")[0]) if key.startswith(prefix))

    def get(self, key: str, start: int = 0, end: int | None = None) -> bytes:
        """Return the bytes of an object from ``start`` up to ``end``; fewer if it is shorter."""
        with self._open(key) as fd:
            stop = os.fstat(fd).st_size if end is None else end
            pieces = []
            while start < stop and (piece := pread(fd, min(stop - start, _PIECE), start)):
                pieces.append(piece)
                start += len(piece)
            return b"".join(pieces)

    def fetch(self, key: str, path: Path, nbytes: int) -> None:
        """Copy an object to a local file, as a link if possible."""
        with self._open(key) as fd:
            if (size := os.fstat(fd).st_size) != nbytes:
                raise CorruptError(f"{self._root / key} has {size} bytes instead of {nbytes}")
            bring_file(self._root / key, fd, path, partial(self._report, key))

    def put(self, key: str, path: Path) -> bool:
        """Add a local file, as a link if possible."""
        target = self._root / check_key(key)
        with _as_remote_errors(target):
            for _ in range(_ATTEMPTS - 1):
                # Another upload that makes the same directories replaces one in which nothing is yet: see make_folder.
                with suppress(FileNotFoundError):
                    return self._put(key, path)
            return self._put(key, path)

    def publish(self, entries: Mapping[str, Path]) -> None:
        """Add index entries one by one."""
        for key, path in entries.items():
            self.put(key, path)

    def keep(self, keys: Iterable[str]) -> set[str]:
        """Update the times of objects, and return the keys of those that exist."""
        present = set()
        with _as_remote_errors(self._root):
            for key in keys:
                target = self._root / check_key(key)
                self._check_inside(target)
                try:
                    os.utime(target)
                except PermissionError:  # only the owner can update the time
                    if not target.exists():
                        continue
                except (FileNotFoundError, NotADirectoryError):
                    self._exists()
                    continue
                present.add(key)
        return present

    def _put(self, key: str, path: Path) -> bool:
        target = self._root / key
        self._exists()
        self._check_inside(target)
        for folder in reversed(list(target.relative_to(self._root).parents)):
            self._make_tidy(self._root / folder)
        added = not target.exists()
        if added:
            added = add_file(path, target, partial(self._report, key))
        with suppress(PermissionError):  # a recent time keeps a garbage collection there from removing it
            os.utime(target)
        return added

    def _make_tidy(self, folder: Path) -> None:
        make_folder(folder)
        if folder not in self._tidied:
            self._tidied.add(folder)
            remove_stale(folder)

    def _exists(self) -> bool:
        """Return whether the directory exists; a missing parent is an error (a typo, or not mounted)."""
        if self._root.is_dir():
            return True
        if not self._root.parent.is_dir():
            raise RemoteError(
                f"{self._root.parent}: no such directory, so there is no remote in it",
                hint="git config theta.remote.NAME.url URL, or mount the file system",
            )
        return False

    def _walk(self, folder: str) -> Iterator[str]:
        path = self._root / folder
        self._check_inside(path)
        try:
            entries = sorted(os.scandir(path), key=lambda entry: entry.name)
        except (FileNotFoundError, NotADirectoryError):
            return
        for entry in entries:
            key = f"{folder}/{entry.name}" if folder else entry.name
            if not is_key(key):
                continue
            if entry.is_dir(follow_symlinks=False):
                yield from self._walk(key)
            elif entry.is_file(follow_symlinks=False):
                yield key

    def _check_inside(self, target: Path) -> None:
        """Reject symbolic links below the root, because they may lead anywhere."""
        while target != self._root:
            if target.is_symlink():
                raise RemoteError(
                    f"{target} is a symbolic link, which a remote must not contain", hint=f"rm {quote(str(target))}"
                )
            target = target.parent

    @contextmanager
    def _open(self, key: str) -> Iterator[int]:
        path = self._root / check_key(key)
        with _as_remote_errors(path):
            self._check_inside(path)
            try:
                fd = open_file(path, os.O_RDONLY | NOFOLLOW)
            except (FileNotFoundError, NotADirectoryError):
                self._exists()
                raise MissingError(f"{key} is not in {self._root}") from None
            try:
                yield fd
            finally:
                os.close(fd)


@contextmanager
def _as_remote_errors(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        full = error.errno in {errno.ENOSPC, errno.EDQUOT}
        raise RemoteError(
            f"{error.filename or path}: {error.strerror or error}",
            hint="free some space there and try again" if full else None,
        ) from error
