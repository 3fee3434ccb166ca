"""Download objects of an LFS server, whole or in ranges; a file is never in memory as a whole."""

from __future__ import annotations

import os
import time
from contextlib import contextmanager
from functools import partial
from threading import Semaphore
from typing import TYPE_CHECKING

from git_theta_ext.errors import CorruptError, MissingError, RemoteError
from git_theta_ext.interfaces import open_file, redacted
from git_theta_ext.protocol.lfs.batch import MAX_OBJECTS, Action
from git_theta_ext.protocol.lfs.ranges import Continuation, continuation, range_header

from ._attempts import Attempts
from ._batches import Batches
from ._files import own_size, write_all
from ._http import PIECE
from ._lfs_attempts import GONE, AgainError, check_reply, retrying

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from pathlib import Path

    from git_theta_ext.protocol.lfs.batch import Answer
    from git_theta_ext.protocol.lfs.pointer import Pointer

    from ._http import Http, Reply
    from ._lfs_server import LfsServer

_TRANSFERS = 8
_WHOLE, _UNSATISFIABLE = 200, 416
_MARGIN = 10
"""Seconds by which the clocks of two hosts may differ."""


class Downloads:
    """Downloads objects, at most 8 at a time.

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
        self._answers = Batches(partial(server.answers, "download"), MAX_OBJECTS)
        self._free = Semaphore(_TRANSFERS)
        self._actions: dict[Pointer, Action] = {}
        self.ranged = True

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
        start: int = 0,
    ) -> None:
        """Download an object to a part of a file, after the bytes that it has already.

        Args:
            pointer: The object.
            path: The file.
            report: Called with the number of bytes that the file has.
            known: What the server answered about the object; None to ask.
            start: The first byte of the object in the file, which has all bytes before.

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
            with self._free, retrying(attempts):
                self._receive(action, pointer, path, start, progressed)
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
            with self._free, retrying(attempts), self._got(action, range_header(start, end)) as reply:
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
        answer = known or self._answers.ask(pointer)
        if answer.error is not None:
            kind = MissingError if answer.error.code in GONE else RemoteError
            raise kind(f"{self._noun} {pointer.oid}: {answer.error.message} (status {answer.error.code})")
        if answer.action is None:
            raise RemoteError(f"{self._noun} {pointer.oid}: the LFS server gives no download")
        return answer.action

    def _receive(
        self, action: Action, pointer: Pointer, path: Path, start: int, progressed: Callable[[int, int], None]
    ) -> None:
        begun = own_size(path, start + pointer.size) - start
        progressed(0, start + begun)
        if begun == pointer.size:
            path.touch()
            return
        with self._got(action, range_header(begun)) as reply:
            found = continuation(reply.status, reply.header("Content-Range"), begun, pointer.size)
            if found is Continuation.START_OVER:
                if begun:
                    os.truncate(path, start)
                raise AgainError(f"{redacted(reply.url)}: the server cannot continue a download")
            at = begun if found is Continuation.REST else 0
            if found is Continuation.WRONG or reply.length not in {None, pointer.size - at}:
                raise _other_size(pointer, reply)
            target = open_file(path, os.O_WRONLY | os.O_CREAT)
            try:
                os.ftruncate(target, start + at)
                os.lseek(target, start + at, os.SEEK_SET)
                _write(reply, target, at, pointer, lambda nbytes, position: progressed(nbytes, start + position))
                os.fsync(target)
            finally:
                os.close(target)

    @contextmanager
    def _got(self, action: Action, wanted: str | None) -> Iterator[Reply]:
        headers = {**action.header, **({"Range": wanted} if wanted else {})}
        with self._http.request("GET", action.href, headers, follow=True) as reply:
            if reply.status != _UNSATISFIABLE:
                check_reply(reply)
            yield reply


def _write(reply: Reply, target: int, position: int, pointer: Pointer, progressed: Callable[[int, int], None]) -> None:
    while piece := reply.read(PIECE):
        if len(piece) > pointer.size - position:
            raise _other_size(pointer, reply)
        write_all(target, piece)
        position += len(piece)
        progressed(len(piece), position)
    if position < pointer.size:
        raise AgainError(f"{redacted(reply.url)}: the download ended after {position} of {pointer.size} bytes")


def _other_size(pointer: Pointer, reply: Reply) -> CorruptError:
    return CorruptError(f"{redacted(reply.url)}: the object does not have {pointer.size} bytes")
