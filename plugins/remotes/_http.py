"""Requests of HTTP/1.1: connections are kept open and reused, bodies are streamed, silence is limited.

Redirects are followed where that is safe: what identifies the user is never sent to another host.
"""

from __future__ import annotations

import http.client
import re
import ssl
import weakref
from contextlib import contextmanager, suppress
from shlex import quote
from threading import Lock
from typing import TYPE_CHECKING, Protocol
from urllib.parse import urljoin, urlsplit

from git_theta_ext.errors import RemoteError, RemoteTimeoutError
from git_theta_ext.interfaces import redacted
from git_theta_ext.protocol.lfs.endpoints import is_http, origin, same_origin

from ._http_connections import Connector

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from ._git_settings import GitSettings

PIECE = 1 << 20
_REDIRECTS = {301, 302, 303, 307, 308}
_MOST_REDIRECTS = 5
_MOST_DRAINED = 1 << 16
_SUCCESS = 300
_API = re.compile(r"/(?:objects/batch|locks(?:/verify|/[^/]+/unlock|\?[^/]*)?)$")

Origin = tuple[str, str, int]


class Body(Protocol):
    """What is uploaded; a request may be repeated, so that it is read from its beginning again."""

    def read(self, length: int = ..., /) -> bytes:
        """Return the next bytes."""
        ...

    def rewind(self) -> int:
        """Go back to the beginning, and return the size in bytes."""
        ...


class ConnectionFailedError(RemoteError):
    """A connection could not be made or broke; another try may succeed."""


class Reply:
    """The answer to a request.

    Args:
        method: The method of the request.
        url: The URL that answered, after redirects.
        response: The answer of the standard library.
        client: The client that sent the request.
    """

    def __init__(self, method: str, url: str, response: http.client.HTTPResponse, client: Http) -> None:
        self.method = method
        self.url = url
        self.status = response.status
        self._response = response
        self._client = client

    @property
    def ok(self) -> bool:
        """Whether the request succeeded."""
        return self.status < _SUCCESS

    def header(self, name: str) -> str | None:
        """Return a header."""
        return self._response.headers.get(name)

    @property
    def length(self) -> int | None:
        """Size of the body in bytes, if the server says it."""
        return self._response.length

    def read(self, most: int) -> bytes:
        """Return the next bytes of the body, at most ``most``; none at its end.

        Raises:
            ConnectionFailedError: The connection broke.
            RemoteTimeoutError: The server was silent for too long.
        """
        with self._client.errors(self.url):
            data = self._response.read(most)
            if not data and self._response.length:
                raise http.client.IncompleteRead(b"", self._response.length)
            return data

    def body(self, most: int) -> bytes:
        """Return the whole body.

        Raises:
            RemoteError: It has more than ``most`` bytes.
        """
        pieces, total = [], 0
        while piece := self.read(PIECE):
            pieces.append(piece)
            total += len(piece)
            if total > most:
                raise RemoteError(f"{redacted(self.url)}: the answer exceeds the limit of {most} bytes")
        return b"".join(pieces)


class Http:
    """A client for any number of threads.

    Args:
        settings: The settings of git.
        timeout: Time that a server may be silent, in seconds.
        proxy: A proxy that precedes those of the settings and the environment.
    """

    def __init__(self, settings: GitSettings, timeout: float, proxy: str | None = None) -> None:
        self._timeout = timeout
        self._connector = Connector(settings, timeout, proxy)
        self._idle: dict[Origin, list[http.client.HTTPConnection]] = {}
        self._lock = Lock()
        weakref.finalize(self, _close, self._idle)

    @contextmanager
    def request(
        self, method: str, url: str, headers: Mapping[str, str], body: Body | None = None, *, follow: bool = False
    ) -> Iterator[Reply]:
        """Send a request, and yield the answer; afterwards the connection is reused if the answer was read.

        Args:
            method: The method.
            url: The URL.
            headers: Headers, which may identify the user: they are never sent to another host.
            body: What is uploaded.
            follow: Whether to follow redirects to another host, without the headers.

        Raises:
            ConnectionFailedError: The connection could not be made or broke.
            RemoteTimeoutError: The server was silent for too long.
            RemoteError: A redirect is not allowed.
        """
        for _ in range(_MOST_REDIRECTS):
            with self._connection(url) as connection:
                with self.errors(url):
                    response = self._exchange(connection, method, url, headers, body)
                location = response.headers.get("Location")
                if response.status not in _REDIRECTS or not location:
                    yield Reply(method, url, response, self)
                    self._keep(url, connection, response)
                    return
                self._keep(url, connection, response)
            there = urljoin(url, location)
            headers = _after_redirect(method, url, there, headers, follow=follow)
            url = there
        raise RemoteError(f"{redacted(url)}: more than {_MOST_REDIRECTS} redirects")

    @contextmanager
    def errors(self, url: str) -> Iterator[None]:
        """Turn errors of connections into errors for the user."""
        where = redacted(f"{urlsplit(url).scheme}://{urlsplit(url).netloc}")
        try:
            yield
        except TimeoutError as error:
            raise RemoteTimeoutError(
                f"{where}: no answer for {self._timeout:g} seconds",
                hint="git config theta.remote.NAME.timeout SECONDS waits longer; received bytes are kept",
            ) from error
        except ssl.SSLCertVerificationError as error:
            raise RemoteError(
                f"{where}: the certificate of the server is not trusted: {error.verify_message}",
                hint=f"git config {quote(f'http.{where}.sslCAInfo')} FILE, with the certificate of the authority",
            ) from error
        except (OSError, http.client.HTTPException) as error:
            what = str(error) if isinstance(error, OSError) else "the connection ended early"
            raise ConnectionFailedError(f"{where}: {what or type(error).__name__}") from error

    def _exchange(
        self,
        connection: http.client.HTTPConnection,
        method: str,
        url: str,
        headers: Mapping[str, str],
        body: Body | None,
    ) -> http.client.HTTPResponse:
        target, more = self._connector.target(url)
        sent = {"User-Agent": "git-theta", **headers, **more}
        reused = connection.sock is not None
        try:
            return _send(connection, method, target, sent, body)
        except (http.client.RemoteDisconnected, ConnectionError):
            # The server may have closed a connection that it kept for a while.
            connection.close()
            if not reused:
                raise
            return _send(connection, method, target, sent, body)

    @contextmanager
    def _connection(self, url: str) -> Iterator[http.client.HTTPConnection]:
        with self._lock:
            idle = self._idle.get(origin(url))
            connection = idle.pop() if idle else None
        if connection is None:
            with self.errors(url):
                connection = self._connector.connect(url)
        kept = False
        try:
            yield connection
            kept = True
        finally:
            if not kept:
                connection.close()

    def _keep(self, url: str, connection: http.client.HTTPConnection, response: http.client.HTTPResponse) -> None:
        with suppress(OSError, http.client.HTTPException):
            if response.length is not None and response.length <= _MOST_DRAINED:
                response.read()
        if not response.isclosed() or connection.sock is None:
            connection.close()
            return
        with self._lock:
            self._idle.setdefault(origin(url), []).append(connection)


def _close(idle: Mapping[Origin, list[http.client.HTTPConnection]]) -> None:
    for connections in idle.values():
        for connection in connections:
            connection.close()


def _send(
    connection: http.client.HTTPConnection, method: str, target: str, headers: Mapping[str, str], body: Body | None
) -> http.client.HTTPResponse:
    if body is None:
        connection.request(method, target, headers=dict(headers))
        return connection.getresponse()
    framed = {**headers, "Content-Length": str(body.rewind())}
    try:
        connection.request(method, target, body, framed)
    except (BrokenPipeError, ConnectionResetError):
        # A server that refuses an upload need not wait for its end. Its answer says why.
        with suppress(OSError, http.client.HTTPException):
            response = connection.getresponse()
            response.headers["Connection"] = "close"
            response.will_close = True
            return response
        raise
    return connection.getresponse()


def _after_redirect(
    method: str, url: str, there: str, headers: Mapping[str, str], *, follow: bool
) -> Mapping[str, str]:
    """Return the headers for the target of a redirect.

    Raises:
        RemoteError: The target is not safe: another host, except to download, or without encryption.
    """
    if not is_http(there) or (urlsplit(url).scheme == "https" and urlsplit(there).scheme != "https"):
        raise RemoteError(f"{redacted(url)} redirects to {redacted(there)[:300]}, which is not encrypted")
    if same_origin(url, there):
        return headers
    upgraded = urlsplit(url).hostname == urlsplit(there).hostname
    if follow or (method in {"GET", "HEAD"} and upgraded):
        return {name: value for name, value in headers.items() if name.lower() == "range"}
    raise RemoteError(
        f"{redacted(url)} redirects to another server, {redacted(there)[:300]}, which gets no credentials",
        hint=f"git config lfs.url {quote(_API.sub('', redacted(there)[:300]))}",
    )
