"""Download any objects of an LFS server, such as those that git-lfs has uploaded."""

from __future__ import annotations

from collections import deque
from concurrent.futures import ThreadPoolExecutor
from itertools import islice
from threading import Event
from typing import TYPE_CHECKING

from git_theta_ext.errors import CorruptError, RemoteError, RemoteTimeoutError, ThetaError
from git_theta_ext.interfaces import sha256_of
from git_theta_ext.protocol.lfs.batch import MAX_OBJECTS
from git_theta_ext.protocol.lfs.pointer import Pointer

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator
    from concurrent.futures import Future

    from git_theta_ext.interfaces import WantedObject
    from git_theta_ext.protocol.lfs.batch import Answer

    from ._lfs_downloads import Downloads
    from ._lfs_server import LfsServer

_TRANSFERS = 8


class LfsObjects:
    """See ``ObjectServer``.

    Args:
        url: The address of the git remote, for messages.
        server: The LFS server.
        downloads: Downloads from it.
    """

    def __init__(self, url: str, server: LfsServer, downloads: Downloads) -> None:
        self._url = url
        self._server = server
        self._downloads = downloads

    def fetch(
        self, objects: Iterable[WantedObject], advance: Callable[[int], None]
    ) -> Iterator[tuple[WantedObject, ThetaError | None]]:
        """Download objects, asking about as many in one request as a server must take."""
        stopped = Event()
        pending: deque[tuple[WantedObject, Future[None]]] = deque()
        left = iter(objects)
        with ThreadPoolExecutor(_TRANSFERS) as executor:
            try:
                while group := list(islice(left, MAX_OBJECTS)):
                    answers = self._server.batch("download", [Pointer(one.oid, one.nbytes) for one in group])
                    for one in group:
                        answer = answers.get(one.oid)
                        pending.append((one, executor.submit(self._bring, one, answer, advance, stopped)))
                    # The next request is sent while objects of this one are downloaded.
                    while len(pending) > MAX_OBJECTS:
                        yield _result(*pending.popleft())
                while pending:
                    yield _result(*pending.popleft())
            finally:
                stopped.set()
                for _, future in pending:
                    future.cancel()

    def _bring(
        self, wanted: WantedObject, answer: Answer | None, advance: Callable[[int], None], stopped: Event
    ) -> None:
        shown = 0

        def report(position: int) -> None:
            nonlocal shown
            if stopped.is_set():
                raise RemoteError("the download was interrupted")
            advance(position - shown)
            shown = position

        path, pointer = wanted.path, Pointer(wanted.oid, wanted.nbytes)
        resumed = path.exists()
        self._downloads.fetch(pointer, path, report, answer)
        sound = sha256_of(path) == wanted.oid
        if resumed and not sound:  # the bytes that it had may have been the wrong ones
            path.unlink()
            self._downloads.fetch(pointer, path, report)
            sound = sha256_of(path) == wanted.oid
        if not sound:
            path.unlink()
            report(0)
            raise CorruptError(f"{self._url}: object {wanted.oid} has other bytes than its name says")


def _result(wanted: WantedObject, future: Future[None]) -> tuple[WantedObject, ThetaError | None]:
    """Return an object with its error, unless that is likely to be the error of all others."""
    try:
        future.result()
    except RemoteTimeoutError:
        raise
    except ThetaError as error:
        return wanted, error
    return wanted, None
