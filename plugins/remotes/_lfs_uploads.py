"""Upload objects to an LFS server; a file is never in memory as a whole."""

from __future__ import annotations

from contextlib import closing
from functools import partial
from threading import Semaphore
from typing import TYPE_CHECKING

from git_theta_ext.errors import RemoteError
from git_theta_ext.protocol.lfs.batch import MAX_OBJECTS, MEDIA_TYPE, Action, verify_request
from git_theta_ext.protocol.lfs.multipart import completion, parts_of

from ._attempts import Attempts
from ._batches import Batches
from ._bodies import FilePart, Memory
from ._lfs_attempts import check_reply, retrying

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

    from git_theta_ext.protocol.lfs.pointer import Pointer

    from ._http import Http
    from ._lfs_server import LfsServer

_TRANSFERS = 8


class Uploads:
    """Uploads packs, at most 8 at a time.

    Args:
        server: The server.
        http: The client.
    """

    def __init__(self, server: LfsServer, http: Http) -> None:
        self._http = http
        self._answers = Batches(partial(server.answers, "upload"), MAX_OBJECTS)
        self._free = Semaphore(_TRANSFERS)

    def upload(self, pointer: Pointer, path: Path, report: Callable[[int], None], start: int = 0) -> bool:
        """Upload a part of a file unless the server has it.

        Args:
            pointer: The object.
            path: The file.
            report: Called with the number of bytes of the file that are sent.
            start: The first byte of the object in the file.

        Returns:
            Whether it was sent.

        Raises:
            RemoteError: The server refuses it, or cannot be reached.
        """
        attempts = Attempts()
        sent = False
        while True:
            answer = self._answers.ask(pointer)
            if answer.error is not None:
                raise RemoteError(f"pack {pointer.oid}: {answer.error.message} (status {answer.error.code})")
            if answer.action is None:
                return sent
            sent = True
            with self._free, retrying(attempts):
                if answer.transfer == "multipart" and "chunk_size" in answer.action.header:
                    self._send_parts(answer.action, pointer, path, report, start)
                else:
                    headers = {"Content-Type": "application/octet-stream", **answer.action.header}
                    self._send(answer.action.href, headers, FilePart(path, start, start + pointer.size, report))
                if answer.verify is not None:
                    self._verify(answer.verify, pointer)
                return True

    def _send_parts(
        self, action: Action, pointer: Pointer, path: Path, report: Callable[[int], None], start: int
    ) -> None:
        """Upload an object in several requests, as Hugging Face has it."""
        etags = [
            self._send(part.href, {}, FilePart(path, start + part.start, start + part.end, report))
            for part in parts_of(action, pointer)
        ]
        self._post(Action(action.href), completion(pointer, etags))

    def _send(self, href: str, headers: Mapping[str, str], part: FilePart) -> str | None:
        """Upload a part of a file, and return the ETag of the answer."""
        with closing(part) as body, self._http.request("PUT", href, headers, body) as reply:
            check_reply(reply)
            return reply.header("ETag")

    def _verify(self, action: Action, pointer: Pointer) -> None:
        """End an upload. The server has the object now, so that it gives no other action for it."""
        attempts = Attempts()
        while True:
            with retrying(attempts):
                self._post(action, verify_request(pointer))
                return

    def _post(self, action: Action, data: bytes) -> None:
        headers = {"Accept": MEDIA_TYPE, "Content-Type": MEDIA_TYPE, **action.header}
        with self._http.request("POST", action.href, headers, Memory(data)) as reply:
            check_reply(reply)
