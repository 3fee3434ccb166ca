"""Upload the parts of a pack, several at a time."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from functools import partial
from itertools import accumulate
from threading import Lock
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

    from ._parts import Part, Parts

    Upload = Callable[[Part, int, Callable[[int], None]], bool]

_AT_ONCE = 4


class _StoppedError(BaseException):
    """Another part failed. No code that tries again after an error may catch it."""


def upload_parts(parts: Parts, upload: Upload, report: Callable[[int], None]) -> bool:
    """Upload parts that have the bytes of a file, one after another. If one fails, the others stop.

    Args:
        parts: The parts.
        upload: Uploads a part, given its offset in the file and what to call with the number of bytes of the file, from
            its beginning to where the upload of the part has come. Returns whether the part was sent.
        report: Called with the number of bytes that are sent of all parts.

    Returns:
        Whether all parts were sent.

    Raises:
        BaseException: The error of the part that failed first.
    """
    uploads = _Uploads(upload, report)
    with ThreadPoolExecutor(min(_AT_ONCE, len(parts))) as executor:
        starts = accumulate((part.size for part in parts), initial=0)
        # Threads that ask the server together need one request.
        futures = [executor.submit(uploads.run, part, start) for part, start in zip(parts, starts, strict=False)]
        for future in futures:
            future.exception()  # waits
    if uploads.failure is not None:
        raise uploads.failure
    return all(future.result() for future in futures)


class _Uploads:
    def __init__(self, upload: Upload, report: Callable[[int], None]) -> None:
        self.failure: BaseException | None = None
        self._upload = upload
        self._report = report
        self._sent: dict[int, int] = {}
        self._lock = Lock()

    def run(self, part: Part, start: int) -> bool:
        if self.failure is not None:
            raise _StoppedError
        try:
            sent = self._upload(part, start, partial(self._count, start))
            self._count(start, start + part.size)
        except BaseException as error:
            self.failure = self.failure or error
            raise
        return sent

    def _count(self, start: int, end: int) -> None:
        if self.failure is not None:
            raise _StoppedError
        with self._lock:
            self._sent[start] = end - start
            self._report(sum(self._sent.values()))
