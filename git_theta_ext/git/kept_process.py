"""A git command that answers one request after another, so that it is started once for all of them."""

from __future__ import annotations

import os
import subprocess
from threading import Lock
from typing import TYPE_CHECKING

from git_theta_ext.errors import RepositoryError

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from git_theta_ext.git.objects import Git

_WINDOW = 4096
"""Bytes of requests that are sent at a time. They fit any pipe, so git takes them although its answers are not read."""
_PIECE = 1 << 16


class KeptProcess:
    """A git command that reads requests from its standard input; it is started for the first one.

    Args:
        git: The repository.
        words: The arguments after ``git``.
        end: The byte that ends a request, and each field of an answer.
        fields: The number of fields of an answer.
    """

    def __init__(self, git: Git, words: Sequence[str], *, end: bytes, fields: int) -> None:
        self._git, self._words = git, words
        self._end, self._fields = end, fields
        self._process: subprocess.Popen[bytes] | None = None
        self._lock = Lock()

    def ask(self, requests: Sequence[bytes]) -> list[bytes]:
        """Return the fields of the answers to some requests, which have no ``end``.

        Raises:
            RepositoryError: The process ended.
        """
        fields: list[bytes] = []
        with self._lock:
            try:
                for window in _windows(requests):
                    fields += self._exchange(window)
            except BaseException:  # what is still unread would be taken for the next answer
                self.close()
                raise
        return fields

    def close(self) -> None:
        """End the process if it was started."""
        process, self._process = self._process, None
        if process is not None:
            process.kill()
            process.communicate()

    def _exchange(self, requests: Sequence[bytes]) -> list[bytes]:
        process = self._process = self._process or self._start()
        assert process.stdin is not None
        assert process.stdout is not None
        answer = bytearray()
        missing = self._fields * len(requests)
        try:
            os.write(process.stdin.fileno(), b"".join(request + self._end for request in requests))
            while missing:
                piece = os.read(process.stdout.fileno(), _PIECE)
                if not piece:
                    raise RepositoryError(f"git {self._words[0]} stopped")
                missing -= piece.count(self._end)
                answer += piece
        except OSError as error:
            raise RepositoryError(f"git {self._words[0]} stopped") from error
        return bytes(answer).split(self._end)[:-1]

    def _start(self) -> subprocess.Popen[bytes]:
        return subprocess.Popen(
            ["git", *self._words],
            cwd=self._git.folder,
            env={**self._git.environment(), "GIT_FLUSH": "1"},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
        )


def _windows(requests: Sequence[bytes]) -> Iterator[list[bytes]]:
    window: list[bytes] = []
    nbytes = 0
    for request in requests:
        if window and nbytes + len(request) >= _WINDOW:
            yield window
            window, nbytes = [], 0
        window.append(request)
        nbytes += len(request) + 1
    if window:
        yield window
