"""Try transfers of an LFS server again, if what happened or what the server answered says so."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING

from git_theta_ext.errors import MissingError, RemoteError
from git_theta_ext.interfaces import redacted
from git_theta_ext.protocol.lfs.batch import error_message
from git_theta_ext.protocol.lfs.retry import Verdict, judge

from ._http import ConnectionFailedError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from ._attempts import Attempts
    from ._http import Reply

GONE = frozenset({404, 410, 422})
_TOO_LARGE, _FULL = 413, 507
_REASONS = {
    _TOO_LARGE: "the server takes no such large request",
    _FULL: "the server has no space left",
    509: "the bandwidth limit of the server is exceeded",
}
_HINTS = {
    _TOO_LARGE: "git config theta.remote.NAME.partSize 90m divides packs",
    _FULL: "make room on the server; git push tries again, and uploaded packs are kept",
}
_MAX_ERROR = 1 << 16


class AgainError(RemoteError):
    """Another try may succeed, with a new action.

    Args:
        message: What happened.
        asked: The header ``Retry-After`` of the answer.
    """

    def __init__(self, message: str, asked: str | None = None) -> None:
        super().__init__(message)
        self.asked = asked


@contextmanager
def retrying(attempts: Attempts) -> Iterator[None]:
    """Wait after a failure, and leave the block without an error, so that the loop around it tries again."""
    try:
        yield
    except (ConnectionFailedError, AgainError) as error:
        attempts.failed(error, getattr(error, "asked", None))


def check_reply(reply: Reply) -> None:
    """Raise an error unless a transfer succeeded.

    A refusal of the headers of an action means that it has expired.
    """
    verdict = judge(reply.status)
    if verdict is Verdict.DONE:
        return
    words = error_message(reply.body(_MAX_ERROR)) or _REASONS.get(reply.status, "the transfer failed")
    message = f"{redacted(reply.url)}: {words} (status {reply.status})"
    if verdict in {Verdict.AGAIN, Verdict.EXPIRED}:
        raise AgainError(message, reply.header("Retry-After"))
    if reply.status in GONE and reply.method == "GET":
        raise MissingError(message)
    raise RemoteError(message, hint=_HINTS.get(reply.status) if reply.method == "PUT" else None)
