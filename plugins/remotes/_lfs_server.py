"""Ask an LFS server: again after failures, and with a credential if it wants one."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Generic, TypeVar

from git_theta_ext.errors import ProtocolError, RemoteError
from git_theta_ext.interfaces import redacted
from git_theta_ext.protocol.lfs.batch import (
    MAX_ANSWER,
    MEDIA_TYPE,
    Answer,
    Refusal,
    batch_request,
    error_message,
    read_batch,
)
from git_theta_ext.protocol.lfs.endpoints import without_user
from git_theta_ext.protocol.lfs.retry import Verdict, judge

from ._attempts import Attempts
from ._bodies import Memory
from ._http import ConnectionFailedError
from ._lfs_endpoints import STORE_HINT

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from collections.abc import Set as AbstractSet

    from git_theta_ext.protocol.lfs.batch import Operation
    from git_theta_ext.protocol.lfs.pointer import Pointer

    from ._http import Http, Reply
    from ._lfs_endpoints import Endpoint, Endpoints

_T = TypeVar("_T")
_UNKNOWN, _FORBIDDEN = 401, 403
_REASONS = {
    _FORBIDDEN: "the user may not do that",
    404: "there is no LFS server, or no such repository",
    406: "the server does not speak the LFS protocol",
    413: "the server takes fewer objects in a request",
    501: "the server does not support LFS",
    507: "the server has no space left",
    509: "the bandwidth limit of the server is exceeded",
}


@dataclass(frozen=True)
class Question(Generic[_T]):
    """A request to an LFS server.

    Attributes:
        operation: The operation, which determines the server and the credential.
        place: The part of the URL after that of the server.
        body: What is sent with POST; None for GET.
        read: Returns what an answer means, given its status and its body; raises ``ProtocolError``.
        answers: Statuses other than those of success that are answers as well. If the address of the server is only
            guessed, they are none.
        most: Maximum size of the answer in bytes.
        hint: What solves a refusal.
    """

    operation: Operation
    place: str
    body: bytes | None
    read: Callable[[int, bytes], _T]
    answers: AbstractSet[int] = frozenset()
    most: int = MAX_ANSWER
    hint: str | None = STORE_HINT


class LfsServer:
    """The LFS server of a git remote, for any number of threads.

    Args:
        endpoints: Where it is.
        http: The client.
    """

    def __init__(self, endpoints: Endpoints, http: Http) -> None:
        self._endpoints = endpoints
        self._http = http

    def url(self, operation: Operation) -> str | None:
        """Return the address of the server by the settings or by that of the remote."""
        return self._endpoints.url(operation)

    def batch(self, operation: Operation, pointers: Sequence[Pointer]) -> dict[str, Answer]:
        """Ask how to transfer objects, at most ``MAX_OBJECTS``.

        Raises:
            RemoteError: The server cannot be reached, or refuses.
        """

        def read(status: int, data: bytes) -> dict[str, Answer]:
            if judge(status) is Verdict.DONE:
                return read_batch(data, operation, pointers, time.time())
            refusal = Refusal(status, error_message(data) or "the server has no such object or repository")
            return {pointer.oid: Answer(pointer, error=refusal) for pointer in pointers}

        # Some servers answer so if they have none of the objects.
        answers = frozenset({404, 422} if operation == "download" else ())
        return self.ask(Question(operation, "objects/batch", batch_request(operation, pointers), read, answers))

    def answers(self, operation: Operation, pointers: Sequence[Pointer]) -> dict[Pointer, Answer]:
        """Return what the server answers about objects; see ``batch``."""
        answers = self.batch(operation, pointers)
        return {pointer: answers[pointer.oid] for pointer in pointers if pointer.oid in answers}

    def ask(self, question: Question[_T], *, failed: Callable[[], None] = lambda: None) -> _T:
        """Send a request until the server answers it, and return what the answer means.

        Args:
            question: The request.
            failed: Called after each try whose answer is not known, so that the server may have done what it asks for.

        Raises:
            RemoteError: The server cannot be reached, or refuses.
        """
        attempts = Attempts()
        while True:
            endpoint = self._endpoints.get(question.operation)
            try:
                status, data, asked = self._send(endpoint, question)
            except ConnectionFailedError as error:
                if endpoint.guessed:
                    raise self._endpoints.no_server(endpoint, error.message) from error
                failed()
                attempts.failed(error)
                continue
            verdict = judge(status)
            if verdict is Verdict.DONE or (status in question.answers and not endpoint.guessed):
                try:
                    answer = question.read(status, data)
                except ProtocolError as error:
                    raise RemoteError(f"{redacted(endpoint.url)}: {error.message}", hint=question.hint) from error
                self._endpoints.accepted(endpoint)
                return answer
            if status == _UNKNOWN or (status == _FORBIDDEN and endpoint.shared):
                self._endpoints.log_in(question.operation, endpoint, asked)
                continue
            refused = self._refusal(endpoint, status, data, question.hint)
            if verdict is not Verdict.AGAIN:
                raise refused
            failed()
            attempts.failed(refused, asked)

    def _send(self, endpoint: Endpoint, question: Question[_T]) -> tuple[int, bytes, str | None]:
        """Return the status and the body of an answer, and ``Retry-After`` or what the server wants to know."""
        url = f"{without_user(endpoint.url).rstrip('/')}/{question.place}"
        headers = {"Accept": MEDIA_TYPE, **endpoint.headers}
        body = None
        if question.body is not None:
            headers, body = {"Content-Type": MEDIA_TYPE, **headers}, Memory(question.body)
        with self._http.request("GET" if body is None else "POST", url, headers, body) as reply:
            return reply.status, reply.body(question.most), reply.header("Retry-After") or _challenge(reply)

    def _refusal(self, endpoint: Endpoint, status: int, data: bytes, hint: str | None) -> RemoteError:
        if endpoint.guessed:
            return self._endpoints.no_server(endpoint, f"status {status}")
        words = error_message(data) or _REASONS.get(status, "the request failed")
        credential = endpoint.credential if status == _FORBIDDEN else None
        who = f", with {credential.source}" if credential else ""
        if credential and credential.bearer:
            hint = "export HF_TOKEN=TOKEN, with a token of https://huggingface.co/settings/tokens that may do that"
        return RemoteError(
            f"{redacted(without_user(endpoint.url))}: {words} (status {status}{who})",
            hint=None if judge(status) is Verdict.AGAIN else hint,
        )


def _challenge(reply: Reply) -> str | None:
    return reply.header("LFS-Authenticate") or reply.header("WWW-Authenticate")
