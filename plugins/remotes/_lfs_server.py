"""An LFS server: where it is, who the user is there, and what it answers about objects."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from threading import Lock
from typing import TYPE_CHECKING

from git_theta_ext.errors import ConfigError, ProtocolError, RemoteError
from git_theta_ext.interfaces import redacted
from git_theta_ext.protocol.lfs.batch import (
    MAX_ANSWER,
    MEDIA_TYPE,
    Answer,
    Refusal,
    batch_request,
    error_message,
    read_authentication,
    read_batch,
)
from git_theta_ext.protocol.lfs.endpoints import is_http, lfs_url, ssh_address, without_user
from git_theta_ext.protocol.lfs.retry import Verdict, judge

from ._attempts import Attempts
from ._bodies import Memory
from ._credentials import configured_headers, from_git, from_netrc, from_url, report
from ._http import ConnectionFailedError
from ._lfs_ssh import authenticate

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from git_theta_ext.interfaces import GitCommands
    from git_theta_ext.protocol.lfs.batch import Operation
    from git_theta_ext.protocol.lfs.pointer import Pointer

    from ._credentials import Credential
    from ._git_settings import GitSettings
    from ._http import Http, Reply

_ANONYMOUS: dict[str, str] = {}
_STORE_HINT = "git config theta.remote.NAME.url URL stores parameters elsewhere: s3://…, ssh://… or a directory"
_REASONS = {
    403: "the user may not do that",
    404: "there is no LFS server, or no such repository",
    406: "the server does not speak the LFS protocol",
    413: "the server takes fewer objects in a request",
    501: "the server does not support LFS",
    507: "the server has no space left",
    509: "the bandwidth limit of the server is exceeded",
}


@dataclass
class _Endpoint:
    """The server for an operation.

    Attributes:
        url: Its address.
        headers: The headers that identify the user.
        credential: Where they come from; None if that is not known.
        ssh: Whether they come from ``git-lfs-authenticate``.
        guessed: Whether the host with ssh does not say where its server is.
        expires: When the headers expire, in seconds since 1970.
    """

    url: str
    headers: Mapping[str, str] = field(default_factory=lambda: _ANONYMOUS)
    credential: Credential | None = None
    ssh: bool = False
    guessed: bool = False
    expires: float | None = None


class LfsServer:
    """The LFS server of a git remote, for any number of threads.

    Args:
        git: The local repository.
        settings: Its settings.
        http: The client.
        name: Name of the git remote.
        address: Its address.
    """

    def __init__(self, git: GitCommands, settings: GitSettings, http: Http, name: str, address: str) -> None:
        self._git = git
        self._settings = settings
        self._http = http
        self._name = name
        self._address = address
        self._endpoints: dict[Operation, _Endpoint] = {}
        self._refused: RemoteError | None = None
        self._lock = Lock()

    def batch(self, operation: Operation, pointers: Sequence[Pointer]) -> dict[str, Answer]:
        """Ask how to transfer objects, at most ``MAX_OBJECTS``.

        Raises:
            RemoteError: The server cannot be reached, or refuses.
        """
        body = batch_request(operation, pointers)
        attempts = Attempts()
        while True:
            endpoint = self._endpoint(operation)
            try:
                status, data, asked = self._post(endpoint, body)
            except ConnectionFailedError as error:
                if endpoint.guessed:
                    raise self._no_server(endpoint, error.message) from error
                attempts.failed(error)
                continue
            verdict = judge(status)
            if verdict is Verdict.DONE:
                try:
                    answers = read_batch(data, operation, pointers, time.time())
                except ProtocolError as error:
                    raise RemoteError(f"{redacted(endpoint.url)}: {error.message}", hint=_STORE_HINT) from error
                self._accepted(endpoint)
                return answers
            if operation == "download" and status in {404, 422} and not endpoint.guessed:
                # Some servers answer so if they have none of the objects.
                refusal = Refusal(status, error_message(data) or "the server has no such object or repository")
                return {pointer.oid: Answer(pointer, error=refusal) for pointer in pointers}
            if status == 401:  # noqa: PLR2004 - HTTP
                self._log_in(operation, endpoint, asked)
                continue
            refused = self._refusal(endpoint, status, data)
            if verdict is not Verdict.AGAIN:
                raise refused
            attempts.failed(refused, asked)

    def _post(self, endpoint: _Endpoint, body: bytes) -> tuple[int, bytes, str | None]:
        """Return the status and the body of an answer, and ``Retry-After`` or what the server wants to know."""
        url = f"{without_user(endpoint.url).rstrip('/')}/objects/batch"
        headers = {"Accept": MEDIA_TYPE, "Content-Type": MEDIA_TYPE, **endpoint.headers}
        with self._http.request("POST", url, headers, Memory(body)) as reply:
            return reply.status, reply.body(MAX_ANSWER), reply.header("Retry-After") or _challenge(reply)

    def _endpoint(self, operation: Operation) -> _Endpoint:
        with self._lock:
            if self._refused is not None:
                raise self._refused
            known = self._endpoints.get(operation)
            if known is None or (known.expires is not None and known.expires <= time.time()):
                known = self._endpoints[operation] = self._discover(operation)
            return known

    def _discover(self, operation: Operation) -> _Endpoint:
        """Find the server as git-lfs does: by the settings, or else from the address of the remote."""
        keys = [f"remote.{self._name}.lfsurl", "lfs.url"]
        if operation == "upload":
            keys = [f"remote.{self._name}.lfspushurl", "lfs.pushurl", *keys]
        named = self._settings.text(*keys)
        address = self._settings.rewritten(named) if named else self._address
        if (ssh := ssh_address(address)) is not None:
            guess = lfs_url(address) or ""
            output = authenticate(self._git, ssh, operation)
            if output is not None:
                try:
                    given = read_authentication(output, guess, time.time())
                except ProtocolError as error:
                    raise RemoteError(f"{ssh.destination}: {error.message}", hint=_STORE_HINT) from error
                return _Endpoint(given.href, given.header, ssh=True, expires=given.expires)
            return _Endpoint(guess, configured_headers(self._settings, guess), guessed=True)
        url = address if named else lfs_url(address)
        if url is None or not is_http(url):
            raise ConfigError(f"{redacted(address)} is not the address of an LFS server", hint=_STORE_HINT)
        headers = configured_headers(self._settings, url)
        credential = from_url(url)
        if credential is not None and not _identifies(headers):
            return _Endpoint(url, {**headers, **credential.header()}, credential)
        return _Endpoint(url, headers)

    def _log_in(self, operation: Operation, endpoint: _Endpoint, challenge: str | None) -> None:
        """Find a credential after the server asked for one.

        Raises:
            RemoteError: There is none, or the server refused the one that was sent.
        """
        with self._lock:
            if self._endpoints.get(operation) is not endpoint:
                return  # another thread has just found one
            sent = endpoint.credential
            if sent is not None:
                report(self._git, sent, accepted=False)
            if endpoint.ssh or _identifies(endpoint.headers) or sent is not None:
                source = sent.source if sent else "git-lfs-authenticate" if endpoint.ssh else "http.extraHeader"
                self._refused = RemoteError(
                    f"{redacted(without_user(endpoint.url))} does not accept {source}",
                    hint="git ls-remote tries the credential; git help credentials says how to replace it",
                )
                raise self._refused
            found = from_netrc(self._settings, endpoint.url)
            try:
                found = found or from_git(self._git, endpoint.url, challenge)
            except RemoteError as error:
                self._refused = self._no_server(endpoint, error.message) if endpoint.guessed else error
                raise self._refused from error
            headers = {**endpoint.headers, **found.header()}
            self._endpoints[operation] = _Endpoint(endpoint.url, headers, found, guessed=endpoint.guessed)

    def _accepted(self, endpoint: _Endpoint) -> None:
        endpoint.guessed = False
        if endpoint.credential is not None and endpoint.credential.filled is not None:
            report(self._git, endpoint.credential, accepted=True)
            endpoint.credential = _approved(endpoint.credential)

    def _refusal(self, endpoint: _Endpoint, status: int, data: bytes) -> RemoteError:
        if endpoint.guessed:
            return self._no_server(endpoint, f"status {status}")
        words = error_message(data) or _REASONS.get(status, "the request failed")
        who = f", with {endpoint.credential.source}" if endpoint.credential and status == 403 else ""  # noqa: PLR2004
        return RemoteError(
            f"{redacted(without_user(endpoint.url))}: {words} (status {status}{who})",
            hint=None if judge(status) is Verdict.AGAIN else _STORE_HINT,
        )

    def _no_server(self, endpoint: _Endpoint, why: str) -> RemoteError:
        return RemoteError(
            f"{redacted(self._address)} has no LFS server: it has no git-lfs-authenticate, and at the usual place, "
            f"{redacted(endpoint.url)}, there is none ({why})",
            hint=f"{_STORE_HINT}; git config lfs.url URL names an LFS server",
        )


def _challenge(reply: Reply) -> str | None:
    return reply.header("LFS-Authenticate") or reply.header("WWW-Authenticate")


def _identifies(headers: Mapping[str, str]) -> bool:
    return any(name.lower() == "authorization" for name in headers)


def _approved(credential: Credential) -> Credential:
    """Return a credential that was approved, which is not done again."""
    from dataclasses import replace

    return replace(credential, filled=None)
