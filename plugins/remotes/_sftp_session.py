"""Files and directories of an SFTP server: transfers in blocks, with many requests on their way."""

from __future__ import annotations

from collections import deque
from contextlib import contextmanager
from threading import BoundedSemaphore
from typing import TYPE_CHECKING, TypeVar

from git_theta_ext.errors import ProtocolError
from git_theta_ext.interfaces import pread
from git_theta_ext.protocol.sftp import requests
from git_theta_ext.protocol.sftp.answers import Data, Handle, Names, Status, read_free_space, read_limits
from git_theta_ext.protocol.sftp.packets import FREE_SPACE, HARD_LINK, LIMITS, SYNC, Attributes, Code

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator
    from concurrent.futures import Future

    from git_theta_ext.protocol.sftp.answers import Answer
    from git_theta_ext.protocol.sftp.requests import Request

    from ._sftp_connection import Connection

_LARGEST_BLOCK = 255 << 10
"""Bytes that are read or written by a request; OpenSSH takes no more."""
_SAFE_BLOCK = 32 << 10
"""Bytes that every server takes."""
_IN_FLIGHT = 32
"""Blocks that are on their way, or in memory, of all transfers of a connection."""
_WAITING = 256
"""Small requests that a call sends before it waits for the first answer."""
_MOST_ENTRIES = 1 << 20
"""Entries of a directory."""

Kind = TypeVar("Kind", Status, Handle, Data, Names, Attributes)


class RefusedRequestError(Exception):
    """A server refuses a request.

    Args:
        status: Its answer.
    """

    def __init__(self, status: Status) -> None:
        super().__init__(status.message)
        self.status = status


class Session:
    """An SFTP server that has introduced itself.

    Methods raise ``RefusedRequestError`` if the server refuses, and what the connection's ``explain`` makes if it ends.

    Args:
        connection: The connection.
    """

    def __init__(self, connection: Connection) -> None:
        self.connection = connection
        self._extensions = connection.hello.result()
        self._read_size = self._write_size = _SAFE_BLOCK
        if LIMITS in self._extensions:
            limits = read_limits(self.ask(requests.limits(), Data))
            self._read_size = min(limits.read or _SAFE_BLOCK, _LARGEST_BLOCK)
            self._write_size = min(limits.write or _SAFE_BLOCK, _LARGEST_BLOCK)
        self._free = BoundedSemaphore(_IN_FLIGHT)

    def ask(self, request: Request, kind: type[Kind]) -> Kind:
        """Send a request, and return the answer, which must be of a kind."""
        return expect(self.connection.send(request), kind)

    def ask_all(self, many: Iterable[Request]) -> Iterator[Future[Answer]]:
        """Send small requests without waiting for each answer, and yield their futures in order."""
        sent: deque[Future[Answer]] = deque()
        for request in many:
            if len(sent) >= _WAITING:
                yield sent.popleft()
            sent.append(self.connection.send(request))
        yield from sent

    @contextmanager
    def opened(self, request: Request) -> Iterator[bytes]:
        """Open a file or a directory for a block."""
        handle = self.ask(request, Handle).value
        try:
            yield handle
        finally:
            self.connection.send(requests.close(handle))

    def entries(self, path: bytes) -> Iterator[tuple[bytes, Attributes]]:
        """Yield the names in a directory, without ``.`` and ``..``."""
        count = 0
        with self.opened(requests.open_directory(path)) as handle:
            # The second answer of a small directory is that it ends: it comes together with the first.
            waiting = deque(self.connection.send(requests.read_directory(handle)) for _ in range(2))
            while True:
                answer = waiting.popleft().result()
                if isinstance(answer, Status) and answer.code == Code.END_OF_FILE:
                    return
                waiting.append(self.connection.send(requests.read_directory(handle)))
                names = _of_kind(answer, Names).entries
                count += len(names)
                if not names or count > _MOST_ENTRIES:
                    raise ProtocolError(f"a directory with {count} entries that does not end")
                yield from (entry for entry in names if entry[0] not in {b".", b".."})

    def read(self, handle: bytes, start: int, end: int) -> Iterator[bytes]:
        """Yield the bytes of a file in order, from ``start`` up to ``end`` or the end of the file."""
        waiting: deque[tuple[Future[Answer], int, int]] = deque()
        asked = start
        try:
            while True:
                while asked < end and self._take(wait=not waiting):
                    count = min(self._read_size, end - asked)
                    waiting.append(self._asked(handle, asked, count))
                    asked += count
                if not waiting:
                    return
                future, at, count = waiting[0]
                data = _content(future.result(), count)
                if not data:
                    return
                if len(data) < count:  # a server may send less than it was asked for
                    waiting[0] = self._asked(handle, at + len(data), count - len(data))
                else:
                    waiting.popleft()
                    self._free.release()
                yield data
        finally:
            for _ in waiting:
                self._free.release()

    def write(self, handle: bytes, source: int, report: Callable[[int], None]) -> None:
        """Write all bytes of an open local file, and make them durable, if the server can.

        Args:
            handle: The file of the server.
            source: The local file.
            report: Called with the number of bytes that the server has written.
        """
        waiting: deque[Future[Answer]] = deque()
        at = 0

        def written() -> None:
            self._written(waiting)
            report(max(0, at - len(waiting) * self._write_size))

        try:
            while block := pread(source, self._write_size, at):
                while not self._take(wait=not waiting):
                    written()
                waiting.append(self.connection.send(requests.write(handle, at, block)))
                at += len(block)
            # It follows the content without waiting for the answers to that.
            synced = self.connection.send(requests.sync(handle)) if SYNC in self._extensions else None
            while waiting:
                written()
            if synced is not None:
                expect(synced, Status)
        finally:
            for _ in waiting:
                self._free.release()

    @contextmanager
    def durable_names(self, directory: bytes) -> Iterator[None]:
        """Make the names in a directory durable after a block that succeeds, if the server can."""
        if SYNC not in self._extensions:
            yield
            return
        # OpenSSH opens and synchronises a directory as a file; other servers may refuse.
        opening = self.connection.send(requests.open_to_read(directory))
        try:
            yield
            if isinstance(opened := opening.result(), Handle):
                self.connection.send(requests.sync(opened.value)).result()
        finally:
            if opening.exception() is None and isinstance(opened := opening.result(), Handle):
                self.connection.send(requests.close(opened.value))

    def link(self, old: bytes, new: bytes) -> bool:
        """Give a file another name, and return whether that was possible: the name may exist."""
        if HARD_LINK not in self._extensions:
            return False
        answer = self.connection.send(requests.hard_link(old, new)).result()
        return isinstance(answer, Status) and answer.code == Code.OK

    def is_full(self, path: bytes) -> bool:
        """Return whether a file system has no room for another block; False if the server does not say."""
        if FREE_SPACE not in self._extensions:
            return False
        answer = self.connection.send(requests.free_space(path)).result()
        return isinstance(answer, Data) and read_free_space(answer) < _LARGEST_BLOCK

    def _written(self, waiting: deque[Future[Answer]]) -> None:
        expect(waiting[0], Status)
        waiting.popleft()
        self._free.release()

    def _asked(self, handle: bytes, at: int, count: int) -> tuple[Future[Answer], int, int]:
        return self.connection.send(requests.read(handle, at, count)), at, count

    def _take(self, *, wait: bool) -> bool:
        """Take the memory for a block. A transfer that holds some must not wait for more, but free what it holds."""
        return self._free.acquire(blocking=wait)


def attributes_of(future: Future[Answer]) -> Attributes | None:
    """Wait for the attributes of a file; None if there is no such file."""
    answer = future.result()
    if isinstance(answer, Status) and answer.code == Code.NO_SUCH_FILE:
        return None
    return _of_kind(answer, Attributes)


def expect(future: Future[Answer], kind: type[Kind]) -> Kind:
    """Wait for an answer, which must be of a kind; a ``Status`` must be that of success."""
    return _of_kind(future.result(), kind)


def _of_kind(answer: Answer, kind: type[Kind]) -> Kind:
    if isinstance(answer, Status) and answer.code != Code.OK:
        raise RefusedRequestError(answer)
    if not isinstance(answer, kind):
        raise ProtocolError(f"the answer {type(answer).__name__} in place of {kind.__name__}")
    return answer


def _content(answer: Answer, most: int) -> bytes:
    if isinstance(answer, Status) and answer.code == Code.END_OF_FILE:
        return b""
    data = _of_kind(answer, Data).value
    if len(data) > most:
        raise ProtocolError(f"{len(data)} bytes, of which only {most} were asked for")
    return data
