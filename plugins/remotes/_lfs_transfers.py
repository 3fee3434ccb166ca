"""Upload and download the objects of an LFS server; a file is never in memory as a whole."""

from __future__ import annotations

import os
import time
from contextlib import closing, contextmanager
from functools import partial
from threading import Semaphore
from typing import TYPE_CHECKING

from git_theta_ext.errors import CorruptError, MissingError, RemoteError
from git_theta_ext.interfaces import redacted
from git_theta_ext.protocol.lfs.batch import MAX_OBJECTS, MEDIA_TYPE, Action, error_message, verify_request
from git_theta_ext.protocol.lfs.multipart import completion, parts_of
from git_theta_ext.protocol.lfs.ranges import Continuation, continuation, range_header
from git_theta_ext.protocol.lfs.retry import Verdict, judge

from ._attempts import Attempts
from ._batches import Batches
from ._bodies import FilePart, Memory
from ._files import own_size, write_all
from ._http import PIECE, ConnectionFailedError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence
    from pathlib import Path

    from git_theta_ext.protocol.lfs.batch import Answer, Operation
    from git_theta_ext.protocol.lfs.pointer import Pointer

    from ._http import Http, Reply
    from ._lfs_server import LfsServer

_TRANSFERS = 8
_GONE = frozenset({404, 410, 422})
_MAX_ERROR = 1 << 16
_WHOLE, _UNSATISFIABLE = 200, 416
_MARGIN = 10
"""Seconds by which the clocks of two hosts may differ."""


class Transfers:
    """Transfers objects, at most 8 at a time.

    Args:
        server: The server.
        http: The client.
        noun: What messages call an object.

    Attributes:
        ranged: Whether the server sends ranges of objects, as far as is known.
    """

    def __init__(self, server: LfsServer, http: Http, noun: str = "pack") -> None:
        self._server = server
        self._http = http
        self._noun = noun
        self._uploads = Batches(partial(_ask, server, "upload"), MAX_OBJECTS)
        self._downloads = Batches(partial(_ask, server, "download"), MAX_OBJECTS)
        self._free = Semaphore(_TRANSFERS)
        self._actions: dict[Pointer, Action] = {}
        self.ranged = True

    def upload(self, pointer: Pointer, path: Path, report: Callable[[int], None]) -> bool:
        """Upload a file unless the server has it.

        Args:
            pointer: The object.
            path: The file.
            report: Called with the number of bytes that are sent.

        Returns:
            Whether it was sent.

        Raises:
            RemoteError: The server refuses it, or cannot be reached.
        """
        attempts = Attempts()
        sent = False
        while True:
            answer = self._uploads.ask(pointer)
            if answer.error is not None:
                raise RemoteError(f"{self._noun} {pointer.oid}: {answer.error.message} (status {answer.error.code})")
            if answer.action is None:
                return sent
            sent = True
            with self._free, _retrying(attempts):
                if answer.transfer == "multipart" and "chunk_size" in answer.action.header:
                    self._send_parts(answer.action, pointer, path, report)
                else:
                    headers = {"Content-Type": "application/octet-stream", **answer.action.header}
                    self._send(answer.action.href, headers, FilePart(path, 0, pointer.size, report))
                if answer.verify is not None:
                    self._verify(answer.verify, pointer)
                return True

    def absent(self, pointers: Sequence[Pointer]) -> set[str]:
        """Return the ids of the objects that the server says to lack, of at most as many as a request may name."""
        answers = self._server.batch("download", pointers)
        return {oid for oid, answer in answers.items() if answer.error is not None}

    def fetch(
        self,
        pointer: Pointer,
        path: Path,
        report: Callable[[int], None] = lambda _: None,
        known: Answer | None = None,
    ) -> None:
        """Download an object to a file, after the bytes that it has already.

        Args:
            pointer: The object.
            path: The file.
            report: Called with the number of bytes that the file has.
            known: What the server answered about the object; None to ask.

        Raises:
            CorruptError: The server has an object of another size.
            MissingError: The server does not have it.
            RemoteError: The server refuses, or cannot be reached.
        """
        attempts = Attempts()

        def progressed(nbytes: int, position: int) -> None:
            attempts.progressed(nbytes)
            report(position)

        while True:
            action = self._download(pointer, known)
            known = None
            with self._free, _retrying(attempts):
                self._receive(action, pointer, path, progressed)
                return

    def read(self, pointer: Pointer, start: int, end: int) -> bytes:
        """Return the bytes of an object from ``start`` up to ``end``, which must be within it.

        Raises:
            ThetaError: See ``fetch``.
        """
        attempts = Attempts()
        renew = False
        while start < end:
            action = self._known_download(pointer, renew=renew)
            renew = True
            with self._free, _retrying(attempts), self._got(action, range_header(start, end)) as reply:
                found = continuation(reply.status, reply.header("Content-Range"), start, pointer.size)
                if reply.status == _WHOLE and end - start < pointer.size:
                    self.ranged = False
                if found in {Continuation.WRONG, Continuation.START_OVER}:
                    raise _other_size(pointer, reply)
                at = start if found is Continuation.REST else 0
                data = bytearray()
                while at < end and (piece := reply.read(min(PIECE, end - at))):
                    data += piece[max(0, start - at) :]
                    at += len(piece)
                if at < end:
                    raise _other_size(pointer, reply)
                return bytes(data)
        return b""

    def _known_download(self, pointer: Pointer, *, renew: bool) -> Action:
        """Return the download of an object, asking the server only if it was not asked before or that has expired."""
        action = None if renew else self._actions.get(pointer)
        if action is None or (action.expires is not None and action.expires <= time.time() + _MARGIN):
            action = self._actions[pointer] = self._download(pointer)
        return action

    def _download(self, pointer: Pointer, known: Answer | None = None) -> Action:
        answer = known or self._downloads.ask(pointer)
        if answer.error is not None:
            kind = MissingError if answer.error.code in _GONE else RemoteError
            raise kind(f"{self._noun} {pointer.oid}: {answer.error.message} (status {answer.error.code})")
        if answer.action is None:
            raise RemoteError(f"{self._noun} {pointer.oid}: the LFS server gives no download")
        return answer.action

    def _receive(self, action: Action, pointer: Pointer, path: Path, progressed: Callable[[int, int], None]) -> None:
        begun = own_size(path, pointer.size)
        progressed(0, begun)
        if begun == pointer.size:
            path.touch()
            return
        with self._got(action, range_header(begun)) as reply:
            found = continuation(reply.status, reply.header("Content-Range"), begun, pointer.size)
            if found is Continuation.START_OVER:
                path.unlink()
                raise _AgainError(f"{redacted(reply.url)}: the server cannot continue a download")
            start = begun if found is Continuation.REST else 0
            if found is Continuation.WRONG or reply.length not in {None, pointer.size - start}:
                raise _other_size(pointer, reply)
            target = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o666)
            try:
                _write(reply, target, start, pointer, progressed)
                os.fsync(target)
            finally:
                os.close(target)

    def _send_parts(self, action: Action, pointer: Pointer, path: Path, report: Callable[[int], None]) -> None:
        """Upload a file in parts, as Hugging Face has it."""
        etags = [
            self._send(part.href, {}, FilePart(path, part.start, part.end, report))
            for part in parts_of(action, pointer)
        ]
        self._post(Action(action.href), completion(pointer, etags))

    def _send(self, href: str, headers: Mapping[str, str], part: FilePart) -> str | None:
        """Upload a part of a file, and return the ETag of the answer."""
        with closing(part) as body, self._http.request("PUT", href, headers, body) as reply:
            _check(reply)
            return reply.header("ETag")

    def _verify(self, action: Action, pointer: Pointer) -> None:
        """End an upload. The server has the object now, so that it gives no other action for it."""
        attempts = Attempts()
        while True:
            with _retrying(attempts):
                self._post(action, verify_request(pointer))
                return

    def _post(self, action: Action, data: bytes) -> None:
        headers = {"Accept": MEDIA_TYPE, "Content-Type": MEDIA_TYPE, **action.header}
        with self._http.request("POST", action.href, headers, Memory(data)) as reply:
            _check(reply)

    @contextmanager
    def _got(self, action: Action, wanted: str | None) -> Iterator[Reply]:
        headers = {**action.header, **({"Range": wanted} if wanted else {})}
        with self._http.request("GET", action.href, headers, follow=True) as reply:
            if reply.status != _UNSATISFIABLE:
                _check(reply)
            yield reply


class _AgainError(RemoteError):
    """Another try may succeed, with a new action.

    Args:
        message: What happened.
        asked: The header ``Retry-After`` of the answer.
    """

    def __init__(self, message: str, asked: str | None = None) -> None:
        super().__init__(message)
        self.asked = asked


def _ask(server: LfsServer, operation: Operation, pointers: Sequence[Pointer]) -> dict[Pointer, Answer]:
    answers = server.batch(operation, pointers)
    return {pointer: answers[pointer.oid] for pointer in pointers if pointer.oid in answers}


@contextmanager
def _retrying(attempts: Attempts) -> Iterator[None]:
    """Wait after a failure, and leave the block without an error, so that the loop around it tries again."""
    try:
        yield
    except (ConnectionFailedError, _AgainError) as error:
        attempts.failed(error, getattr(error, "asked", None))


def _check(reply: Reply) -> None:
    """Raise an error unless a transfer succeeded.

    A refusal of the headers of an action means that it has expired.
    """
    verdict = judge(reply.status)
    if verdict is Verdict.DONE:
        return
    words = error_message(reply.body(_MAX_ERROR)) or "the transfer failed"
    message = f"{redacted(reply.url)}: {words} (status {reply.status})"
    if verdict in {Verdict.AGAIN, Verdict.EXPIRED}:
        raise _AgainError(message, reply.header("Retry-After"))
    raise MissingError(message) if reply.status in _GONE and reply.method == "GET" else RemoteError(message)


def _write(reply: Reply, target: int, start: int, pointer: Pointer, progressed: Callable[[int, int], None]) -> None:
    os.ftruncate(target, start)
    os.lseek(target, start, os.SEEK_SET)
    position = start
    while piece := reply.read(PIECE):
        if len(piece) > pointer.size - position:
            raise _other_size(pointer, reply)
        write_all(target, piece)
        position += len(piece)
        progressed(len(piece), position)
    if position < pointer.size:
        raise _AgainError(f"{redacted(reply.url)}: the download ended after {position} of {pointer.size} bytes")


def _other_size(pointer: Pointer, reply: Reply) -> CorruptError:
    return CorruptError(f"{redacted(reply.url)}: the object does not have {pointer.size} bytes")
