"""The objects below a directory of an SFTP server, as files."""

from __future__ import annotations

import stat
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from posixpath import dirname
from secrets import token_hex
from typing import TYPE_CHECKING

from git_theta_ext.errors import MissingError, ProtocolError, RemoteError
from git_theta_ext.interfaces import is_key
from git_theta_ext.protocol.sftp import requests
from git_theta_ext.protocol.sftp.answers import Status
from git_theta_ext.protocol.sftp.packets import Attributes, Code

from ._files import READ_BITS, STALE_SECONDS, TEMPORARY
from ._sftp_session import RefusedRequestError, attributes_of, expect

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator
    from concurrent.futures import Future

    from git_theta_ext.protocol.sftp.answers import Answer

    from ._sftp_session import Session

_PERMISSIONS = 0o7777
_OWNER_WRITES = 0o200
_USUAL_FOLDER = 0o755
_READERS = 32
"""Directories that are listed at the same time: each takes several answers."""
_MOST_ENTRIES = 1 << 20
"""Entries of all directories that are listed together."""
_MOST_TEMPORARIES = 1 << 10
_FREE_SPACE = "free some space there and try again"
_LATEST = (1 << 32) - 1  # SFTP has times of 32 bits


class SftpDirectory:
    """Objects as files below a directory.

    Methods raise ``RefusedRequestError`` if the server refuses a request, ``ProtocolError`` if it breaks the protocol,
    and ``RemoteError`` for what a user must change there.

    Args:
        session: The server.
        root: The directory. ``put`` makes it; its parent must exist.
        url: The URL of the directory, for messages.
    """

    def __init__(self, session: Session, root: bytes, url: str) -> None:
        self.session = session
        self._url = url
        self._root = root
        self._modes: dict[bytes, int] = {}  # of directories, which are no symbolic links
        self._temporaries: dict[bytes, int] = {}  # path and time of files that killed uploads may have left

    @contextmanager
    def opened(self, key: str) -> Iterator[tuple[bytes, int]]:
        """Open an object for a block; yields the handle and the size.

        Raises:
            MissingError: There is no such object.
        """
        path = self._path(key)
        looked = self._look([key])  # the answers come together with the handle
        try:
            with self.session.opened(requests.open_to_read(path)) as handle:
                attributes = self._seen(looked).get(path)
                if attributes is None:
                    raise MissingError(key)
                yield handle, attributes.size or 0
        except RefusedRequestError as error:
            if error.status.code != Code.NO_SUCH_FILE:
                raise
            self.exists()
            raise MissingError(key) from error

    def put(self, key: str, source: int, report: Callable[[int], None]) -> bool:
        """Store an open local file; returns False if the object exists."""
        path = self._path(key)
        attributes = self._seen(self._look([key])).get(path)
        if attributes is not None:
            self._renew({path: attributes})
            return False
        folder = dirname(path)
        mode = self._made(folder) & READ_BITS
        with self.session.durable_names(folder):
            return self._added(path, mode, source, report)

    def renew(self, keys: Iterable[str]) -> set[str]:
        """Update the times of objects, and return the keys of those that exist."""
        paths = {self._path(key): key for key in keys}
        seen = self._seen(self._look(paths.values()))
        present = self._renew({path: seen[path] for path in paths if path in seen})
        if len(present) < len(paths):
            self.exists()
        return {paths[path] for path in present}

    def keys(self, prefix: str) -> Iterator[str]:
        """Yield the keys of objects that start with ``prefix``."""
        if not self.exists():
            return
        self._seen(self._look([f"{prefix}{TEMPORARY}"]))
        folders, left = [prefix.rpartition("/")[0]], _MOST_ENTRIES
        with ThreadPoolExecutor(_READERS) as executor:
            while folders:
                below = []
                for entries in executor.map(self._entries, folders):
                    left -= len(entries)
                    if left < 0:
                        raise ProtocolError(f"more than {_MOST_ENTRIES} names in its directories")
                    matching = {key: mode for key, mode in entries.items() if key.startswith(prefix)}
                    below += [key for key, mode in matching.items() if stat.S_ISDIR(mode)]
                    yield from (key for key, mode in matching.items() if stat.S_ISREG(mode))
                folders = below

    def exists(self) -> bool:
        """Return whether the directory exists; a missing parent is an error (a typo, or not mounted)."""
        if self._root in self._modes or self._status(self._root) is not None:
            return True
        self._parent_mode()
        return False

    def _path(self, key: str) -> bytes:
        return self._root + b"/" + key.encode()

    def _entries(self, folder: str) -> dict[str, int]:
        """Return keys in a directory with the type of the file; those of incomplete uploads are remembered."""
        path = self._path(folder) if folder else self._root
        found = {}
        try:
            for raw, attributes in self.session.entries(path):
                name = raw.decode(errors="replace")
                key = f"{folder}/{name}" if folder else name
                if is_key(key):
                    found[key] = attributes.mode
                elif name.startswith(TEMPORARY) and len(self._temporaries) < _MOST_TEMPORARIES and b"/" not in raw:
                    self._temporaries[path + b"/" + raw] = attributes.mtime or _LATEST
        except RefusedRequestError as error:
            if error.status.code != Code.NO_SUCH_FILE:
                raise
        unknown = [key for key, mode in found.items() if mode is None]  # some servers list names only
        looked = [self.session.connection.send(requests.status_of(self._path(key))) for key in unknown]
        for key, future in zip(unknown, looked, strict=True):
            found[key] = getattr(attributes_of(future), "mode", 0)
        return {key: mode or 0 for key, mode in found.items()}

    def _look(self, keys: Iterable[str]) -> list[tuple[bytes, Future[Answer]]]:
        """Request the attributes of objects and of the directories they are in, without waiting."""
        paths = [self._path(key) for key in keys]
        folders = {folder for path in paths for folder in self._folders(path) if folder not in self._modes}
        send = self.session.connection.send
        return [(path, send(requests.status_of(self._itself(path)))) for path in (*sorted(folders), *paths)]

    def _seen(self, looked: Iterable[tuple[bytes, Future[Answer]]]) -> dict[bytes, Attributes]:
        """Wait for the attributes of files and directories, and return those of the ones that exist.

        Raises:
            RemoteError: One of them is a symbolic link, which may lead anywhere.
        """
        seen = {}
        for path, future in looked:
            if (attributes := attributes_of(future)) is None:
                continue
            mode = attributes.mode or 0
            if stat.S_ISLNK(mode):
                raise RemoteError(
                    f"{self._url}: {path.decode(errors='replace')} is a symbolic link, which a remote must not contain",
                    hint="remove it there",
                )
            if stat.S_ISDIR(mode):
                self._modes[path] = mode & _PERMISSIONS
            seen[path] = attributes
        return seen

    def _status(self, path: bytes) -> Attributes | None:
        looked = [(path, self.session.connection.send(requests.status_of(self._itself(path))))]
        return self._seen(looked).get(path)

    def _itself(self, path: bytes) -> bytes:
        """Return what to request for a path: the root may be a symbolic link, which is followed."""
        return path + b"/." if path == self._root else path

    def _folders(self, path: bytes) -> Iterator[bytes]:
        while path != self._root:
            path = dirname(path)
            yield path

    def _parent_mode(self) -> int:
        parent = dirname(self._root) or b"."
        attributes = self._status(parent + b"/.")
        if attributes is None:
            raise RemoteError(
                f"{self._url}: there is no such directory as {parent.decode(errors='replace')} to make a remote in",
                hint="git config theta.remote.NAME.url URL, or make the directory there",
            )
        return (attributes.mode or _USUAL_FOLDER) & _PERMISSIONS

    def _made(self, folder: bytes) -> int:
        """Make a directory with the permissions of its parent unless it exists, and return its permissions."""
        if folder in self._modes:
            return self._modes[folder]
        mode = self._parent_mode() if folder == self._root else self._made(dirname(folder))
        with self.session.durable_names(dirname(folder) or b"."):
            # The server's umask may remove some permissions. Nobody is to see the directory with those that remain.
            making, changing, looking = self.session.connection.send_together(
                requests.make_directory(folder, mode),
                requests.change(folder, Attributes(mode=mode)),
                requests.status_of(self._itself(folder)),
            )
            with suppress(RefusedRequestError):
                expect(changing, Status)
            if folder not in self._seen([(folder, looking)]):
                expect(making, Status)  # unless somebody else made it
        return self._modes.get(folder, mode)

    def _added(self, path: bytes, mode: int, source: int, report: Callable[[int], None]) -> bool:
        """Write a file under another name, and then give it its own, unless somebody else was faster."""
        temporary = dirname(path) + b"/" + (TEMPORARY + token_hex(8)).encode()
        try:
            with self.session.opened(requests.open_new(temporary, mode | _OWNER_WRITES)) as handle:
                changed = self.session.connection.send(requests.change_open(handle, Attributes(mode=mode)))
                self.session.write(handle, source, report)
                with suppress(RefusedRequestError):  # a server without permissions
                    expect(changed, Status)
            self._tidy(temporary)
            return self._name(temporary, path)
        except RefusedRequestError as error:
            # The server does not say why a request failed. The temporary file still takes the space.
            if error.status.code == Code.FAILURE and self.session.is_full(dirname(path)):
                place = f"{self._url}/{path[len(self._root) + 1 :].decode()}"
                raise RemoteError(f"{place}: no space left there", hint=_FREE_SPACE) from error
            raise
        finally:
            self.session.connection.send(requests.remove(temporary))

    def _name(self, temporary: bytes, path: bytes) -> bool:
        if self.session.link(temporary, path):
            return True
        if self._status(path) is not None:
            return False
        # The server, or its file system, has no hard links. If it renames over a file that was made after the check,
        # the bytes are the same, because keys contain the hash of their object.
        try:
            self.session.ask(requests.rename(temporary, path), Status)
        except RefusedRequestError:
            if self._status(path) is None:
                raise
            return False
        return True

    def _renew(self, objects: dict[bytes, Attributes]) -> set[bytes]:
        """Set the times of files to now, and return the paths of those that still exist."""
        now = int(time.time())
        send = self.session.connection.send
        changes = {
            # The clock of the host may be ahead of this one: no object becomes older.
            path: send(requests.change(path, Attributes(mtime=min(max(now, attributes.mtime or 0), _LATEST))))
            for path, attributes in objects.items()
        }
        present = set()
        for path, changed in changes.items():
            answer = changed.result()
            # Only the owner of a file can change its time.
            if not isinstance(answer, Status) or answer.code != Code.NO_SUCH_FILE:
                present.add(path)
        return present

    def _tidy(self, temporary: bytes) -> None:
        """Remove files of uploads that were killed more than a day before a file of this upload was written."""
        if not self._temporaries or (written := self._status(temporary)) is None:
            return
        listed, self._temporaries = self._temporaries, {}
        for path, changed in listed.items():
            if (written.mtime or 0) - changed > STALE_SECONDS:
                self.session.connection.send(requests.remove(path))
