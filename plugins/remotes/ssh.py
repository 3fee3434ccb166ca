"""A directory on a host, by SFTP over the system's ssh.

All requests of a command go over one connection, which is opened as git does it: ssh's configuration, agents, jump
hosts, ``GIT_SSH_COMMAND`` and ``core.sshCommand`` apply. Objects are files, as in a directory on this machine.
"""

from __future__ import annotations

import os
import weakref
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import partial
from threading import Lock
from typing import TYPE_CHECKING, Any

from git_theta_ext.errors import ConfigError, CorruptError, MissingError, ProtocolError, RemoteError
from git_theta_ext.interfaces import RemoteType, check_key, check_prefix, open_file
from git_theta_ext.protocol.sftp.packets import Code

from ._files import own_size, write_all
from ._sftp_connection import Connection, check_system
from ._sftp_directory import SftpDirectory
from ._sftp_session import RefusedRequestError, Session
from ._ssh_address import parse_address
from ._ssh_command import ssh_command
from ._ssh_errors import RefusedError, explain
from ._timeout import timeout_of

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping
    from pathlib import Path

    from git_theta_ext.interfaces import RemoteContext

    from ._ssh_address import Address

_PUBLISHERS = 16
_WORDS: dict[int, tuple[str, str | None]] = {
    Code.PERMISSION_DENIED: ("permission denied", "check the permissions of the directories there"),
    Code.FAILURE: ("the request failed", "check permissions, quotas and free space there"),
    Code.UNSUPPORTED: ("the server does not support the request", None),
}


def open_remote(url: str, options: Mapping[str, Any], context: RemoteContext) -> SshRemote:
    """Open the directory at ``ssh://[user@]host[:port]/path``. The first request connects.

    Args:
        url: The directory. The first upload creates it; its parent must exist. A path that starts with ``/~/`` is in
            the home directory of the user there.
        options: ``timeout``, the time that the host may be silent, in seconds.
        context: The repository, whose settings choose the program that connects, and what takes reports.

    Raises:
        ConfigError: The URL or an option is not valid.
    """
    if unknown := set(options) - {"timeout"}:
        raise ConfigError(
            f"{url}: unknown setting {min(unknown)}", hint=f"git config --unset theta.remote.NAME.{min(unknown)}"
        )
    return SshRemote(url, parse_address(url), timeout_of(url, options), context)


REMOTE = RemoteType(("ssh", "sftp"), open_remote)


class SshRemote:
    """See ``Remote``.

    Args:
        url: The URL, for messages.
        address: The URL, parsed.
        timeout: Time that the host may be silent, in seconds.
        context: What it is opened for.
    """

    def __init__(self, url: str, address: Address, timeout: float, context: RemoteContext) -> None:
        self._url = url
        self._address = address
        self._timeout = timeout
        self._git = context.git
        self._report = context.report
        self._lock = Lock()
        self._connected: SftpDirectory | None = None
        self._refused: RefusedError | None = None

    def list(self, prefix: str) -> Iterator[str]:
        """Yield the keys that start with ``prefix``."""
        check_prefix(prefix)
        with self._errors():
            yield from self._directory().keys(prefix)

    def get(self, key: str, start: int = 0, end: int | None = None) -> bytes:
        """Return the bytes of an object from ``start`` up to ``end``; fewer if it is shorter."""
        check_key(key)
        with self._errors(key):
            directory = self._directory()
            with directory.opened(key) as (handle, size):
                return b"".join(directory.session.read(handle, start, size if end is None else min(end, size)))

    def fetch(self, key: str, path: Path, nbytes: int) -> None:
        """Download an object to a local file, whose first bytes may be there."""
        check_key(key)
        with self._errors(key):
            directory = self._directory()
            with directory.opened(key) as (handle, size):
                if size != nbytes:
                    raise CorruptError(f"{self._url}: {key} has {size} bytes instead of {nbytes}")
                self._append(directory.session.read(handle, own_size(path, nbytes), nbytes), key, path, nbytes)

    def put(self, key: str, path: Path) -> bool:
        """Upload a local file."""
        check_key(key)
        with self._errors(key), path.open("rb", buffering=0) as file:
            return self._directory().put(key, file.fileno(), partial(self._report, key))

    def publish(self, entries: Mapping[str, Path]) -> None:
        """Upload index entries in threads."""
        for key in entries:
            check_key(key)
        with ThreadPoolExecutor(_PUBLISHERS) as executor:
            for _ in executor.map(self.put, entries, entries.values()):
                pass

    def keep(self, keys: Iterable[str]) -> set[str]:
        """Update the times of objects, and return the keys of those that exist; the requests are sent together."""
        wanted = [check_key(key) for key in keys]
        with self._errors():
            return self._directory().renew(wanted) if wanted else set()

    def _append(self, pieces: Iterator[bytes], key: str, path: Path, nbytes: int) -> None:
        target = open_file(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        try:
            position = os.fstat(target).st_size
            for piece in pieces:
                write_all(target, piece)
                position += len(piece)
                self._report(key, position)
            os.fsync(target)
            if (size := os.fstat(target).st_size) != nbytes:
                raise CorruptError(f"{self._url}: {key} ends after {size} of {nbytes} bytes")
        finally:
            os.close(target)

    def _directory(self) -> SftpDirectory:
        """Return the directory, and connect to the host unless that was done.

        Raises:
            RemoteError: The host cannot be reached, or refuses. After a refusal it is not asked again: repeated logins
                with a wrong key may lock the user out.
        """
        with self._lock:
            if self._refused is not None:
                raise RefusedError(self._refused.message, hint=self._refused.hint)
            if self._connected is None or not self._connected.session.connection.alive:
                try:
                    self._connected = self._connect()
                except RefusedError as error:
                    self._refused = error
                    raise
            return self._connected

    def _connect(self) -> SftpDirectory:
        check_system()
        command = ssh_command(self._git)
        process = command.start(self._address)
        told = partial(explain, url=self._url, test=command.test(self._address))
        connection = Connection(process, self._timeout, told)
        closing = weakref.finalize(self, connection.close)
        try:
            return SftpDirectory(Session(connection), self._address.path, self._url)
        except BaseException:
            closing()
            raise

    @contextmanager
    def _errors(self, key: str = "") -> Iterator[None]:
        place = f"{self._url}/{key}" if key else self._url
        try:
            yield
        except MissingError as error:
            raise MissingError(f"{key} is not in {self._url}") from error
        except RefusedRequestError as error:
            words, hint = _WORDS.get(error.status.code, (f"refused: {error.status.message}", None))
            raise RemoteError(f"{place}: {words}", hint=hint) from error
        except ProtocolError as error:
            raise RemoteError(f"{place}: the server breaks the SFTP protocol: {error.message}") from error
        except OSError as error:
            raise RemoteError(f"{error.filename or place}: {error.strerror or error}") from error
